-- Link: records the SID of a challenge's verification, unless the challenge was replaced.
-- KEYS     challenge (the recipient's current one)
-- ARGV     challenge id, verification SID
-- Answers  linked | replaced
local challenge = KEYS[1]
local challenge_id, verification_sid = unpack(ARGV)
if redis.call('HMGET', challenge, 'id')[1] ~= challenge_id then return 'replaced' end
redis.call('HSET', challenge, 'name', verification_sid)
return 'linked'
