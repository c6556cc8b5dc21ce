-- Under which name a provider checks the code of a challenge. One that was replaced stays as it is.
-- KEYS  challenge
local id, name = unpack(ARGV)
if redis.call('HMGET', KEYS[1], 'id')[1] ~= id then return 'replaced' end
redis.call('HSET', KEYS[1], 'name', name)
return 'named'
