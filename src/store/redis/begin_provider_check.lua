-- Provider check, first half: the check is counted before the provider is asked.
-- KEYS     challenge, wrong, possible checks
-- ARGV     now, check, wrong attempts per challenge, wrong attempts per hour, challenge kept after its expiry,
--          key id of codes that the provider made
-- Answers  ask VERIFICATION or '-', or a verdict as in verify.lua
local challenge, wrong, possible_checks = unpack(KEYS)
local now, check, wrong_per_challenge, wrong_count, kept_after, provider_made = unpack(ARGV)
now = clock(now)

local fields = redis.call('HMGET', challenge, 'kid', 'expires', 'used', 'wrong', 'name', 'open:' .. check)
local kid, expires, used_by, checks, name, open_verification = unpack(fields)
if not kid or tonumber(expires) + kept_after <= now then return 'none_pending' end
if used_by then return 'already_used' end
if kid ~= provider_made then return 'key_unavailable' end
-- The step is repeated because its answer was lost. It was counted the first time.
if open_verification then return 'ask ' .. open_verification end
if tonumber(expires) <= now then return 'expired ' .. expires end
-- The recipient's lock comes first: a new code does not lift it.
local locked = wait(wrong, wrong_count, HOUR, now)
if locked > 0 then return 'locked ' .. ms(locked) end
if tonumber(checks) >= tonumber(wrong_per_challenge) then return 'locked 0' end

local verification = name or '-'
redis.call('HINCRBY', challenge, 'wrong', 1)
redis.call('HSET', challenge, 'open:' .. check, verification)
-- Counted as wrong until the provider says otherwise.
append(wrong, check, HOUR, now)
-- Listed by recipient: one code of the provider's may serve several challenges, and outlive each.
append(possible_checks, verification .. ' ' .. check, DAY, now)
return 'ask ' .. verification
