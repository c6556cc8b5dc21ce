-- May a typed code be checked by whoever made it? Counts the try before anybody is asked.
-- KEYS  challenge, wrong, asked
local now, check, challenge_max, hour_max, kept_after, elsewhere = unpack(ARGV)
now = clock(now)

local c = redis.call('HMGET', KEYS[1], 'kid', 'expires', 'used', 'wrong', 'name', 'open:' .. check)
if not c[1] or tonumber(c[2]) + kept_after <= now then return 'none' end
if c[3] then return 'used' end
if c[1] ~= elsewhere then return 'key' end
-- Asked again after its answer was lost: it was counted then, and asked about under this name.
if c[6] then return 'ask ' .. c[6] end
if tonumber(c[2]) <= now then return 'expired ' .. c[2] end
-- First what another code does not help against.
local locked = wait(KEYS[2], hour_max, HOUR, now)
if locked > 0 then return 'locked ' .. ms(locked) end
if tonumber(c[4]) >= tonumber(challenge_max) then return 'locked 0' end

local name = c[5] or '-'
redis.call('HINCRBY', KEYS[1], 'wrong', 1)
redis.call('HSET', KEYS[1], 'open:' .. check, name)
append(KEYS[2], check, HOUR, now)
-- One code of the provider's may stand for several challenges of the recipient, and outlive each.
append(KEYS[3], name .. ' ' .. check, DAY, now)
return 'ask ' .. name
