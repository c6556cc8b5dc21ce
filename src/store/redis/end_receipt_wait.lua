-- End of a wait: drops a message whose receipt lapsed.
-- KEYS     expected receipts
-- ARGV     its member: message id, recipient, time of the send, request id
-- Answers  ended
redis.call('ZREM', KEYS[1], ARGV[1])
return 'ended'
