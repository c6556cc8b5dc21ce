-- Reopen: undoes the check that verified a challenge, so that its code can be verified again.
-- KEYS     challenge
-- ARGV     check id, key id of codes that the provider made, one of our key ids, digest of the right code under it
-- Answers  reopened | unchanged (another check, or a new challenge)
local challenge = KEYS[1]
local now, check_id, provider_made, kid, digest = unpack(ARGV)
now = clock(now)
local fields = redis.call('HMGET', challenge, 'kid', 'used')
if fields[2] ~= check_id or redis.call('HMGET', challenge, 'expires')[1] + 3600000 <= now then return 'unchanged' end
redis.call('HDEL', challenge, 'used')
redis.call('HINCRBY', challenge, 'wrong', -1)
-- A provider accepts a code only once, so the next check compares here. With `callers` 1, admission continues
-- this challenge only for a request that brings this same code.
if fields[1] == provider_made then redis.call('HSET', challenge, 'kid', kid, 'digest', digest, 'callers', 1) end
return 'reopened'
