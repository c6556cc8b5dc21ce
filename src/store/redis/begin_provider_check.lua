-- Provider check, first half: the check is counted before the provider is asked.
-- KEYS     challenge, wrong, possible checks
-- ARGV     now, check, wrong attempts per challenge, wrong attempts per hour, challenge kept after its expiry,
--          key id of codes that the provider made
-- Answers  ask VERIFICATION or '-', or a verdict as in verify.lua
local now, check, wrong_per_challenge, wrong_count, kept_after, provider_made = unpack(ARGV)
now = clock(now)

local c = redis.call('HMGET', KEYS[1], 'kid', 'expires', 'used', 'wrong', 'name', 'open:' .. check)
if not c[1] or tonumber(c[2]) + kept_after <= now then return 'none_pending' end
if c[3] then return 'already_used' end
if c[1] ~= provider_made then return 'key_unavailable' end
-- The step is repeated because its answer was lost. It was counted the first time.
if c[6] then return 'ask ' .. c[6] end
if tonumber(c[2]) <= now then return 'expired ' .. c[2] end
-- The recipient's lock comes first: a new code does not lift it.
local locked = wait(KEYS[2], wrong_count, HOUR, now)
if locked > 0 then return 'locked ' .. ms(locked) end
if tonumber(c[4]) >= tonumber(wrong_per_challenge) then return 'locked 0' end

local verification = c[5] or '-'
redis.call('HINCRBY', KEYS[1], 'wrong', 1)
redis.call('HSET', KEYS[1], 'open:' .. check, verification)
-- Counted as wrong until the provider says otherwise.
append(KEYS[2], check, HOUR, now)
-- Listed by recipient: one code of the provider's may serve several challenges, and outlive each.
append(KEYS[3], verification .. ' ' .. check, DAY, now)
return 'ask ' .. verification
