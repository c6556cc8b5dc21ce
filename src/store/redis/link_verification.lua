-- Link: records the provider's name for the verification of a challenge, unless the challenge was replaced.
-- KEYS     challenge
-- ARGV     challenge id, name
-- Answers  linked | replaced
local id, name = unpack(ARGV)
if redis.call('HMGET', KEYS[1], 'id')[1] ~= id then return 'replaced' end
redis.call('HSET', KEYS[1], 'name', name)
return 'linked'
