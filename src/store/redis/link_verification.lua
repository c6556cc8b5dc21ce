-- Link: records the provider's name for the verification of a challenge, unless the challenge was replaced.
-- KEYS     challenge
-- ARGV     challenge id, name
-- Answers  linked | replaced
local challenge = KEYS[1]
local id, name = unpack(ARGV)
if redis.call('HMGET', challenge, 'id')[1] ~= id then return 'replaced' end
redis.call('HSET', challenge, 'name', name)
return 'linked'
