-- Link: records the SID of a challenge's verification, unless the challenge was replaced.
-- KEYS     challenge (the recipient's current one)
-- ARGV     challenge id, verification SID
-- Answers  linked | replaced
local challenge = KEYS[1]
local now, challenge_id, verification_sid = unpack(ARGV)
now = clock(now)
local fields = redis.call('HMGET', challenge, 'id', 'expires')
if fields[1] ~= challenge_id or fields[2] + 3600000 <= now then return 'replaced' end
redis.call('HSET', challenge, 'name', verification_sid)
return 'linked'
