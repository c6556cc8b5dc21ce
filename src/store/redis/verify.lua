-- Verification: checks a typed code. The check is counted before the code is compared.
-- KEYS     challenge, wrong
-- ARGV     now, check, wrong attempts per challenge, wrong attempts per hour, challenge kept after its expiry,
--          then the id of each of our code keys, and the digest of the typed code under it
-- Answers  verified | wrong LEFT | already_used | expired AT | locked MS or 0 | none_pending | key_unavailable
local now, check, wrong_per_challenge, wrong_count, kept_after = unpack(ARGV, 1, 5)
now = clock(now)

local c = redis.call('HMGET', KEYS[1], 'kid', 'digest', 'expires', 'used', 'wrong')
if not c[1] or tonumber(c[3]) + kept_after <= now then return 'none_pending' end
if c[4] then return c[4] == check and 'verified' or 'already_used' end
local expires, checks = tonumber(c[3]), tonumber(c[5])
if expires <= now then return 'expired ' .. ms(expires) end
-- The check is repeated because its answer was lost. It was counted the first time.
if redis.call('ZSCORE', KEYS[2], check) then return 'wrong ' .. math.max(0, wrong_per_challenge - checks) end
-- The recipient's lock comes first: a new code does not lift it.
local locked = wait(KEYS[2], wrong_count, HOUR, now)
if locked > 0 then return 'locked ' .. ms(locked) end
if checks >= tonumber(wrong_per_challenge) then return 'locked 0' end
local typed
for i = 6, #ARGV, 2 do
  if ARGV[i] == c[1] then typed = ARGV[i + 1] end
end
if not typed then return 'key_unavailable' end

checks = redis.call('HINCRBY', KEYS[1], 'wrong', 1)
if typed == c[2] then
  redis.call('HSET', KEYS[1], 'used', check)
  return 'verified'
end
append(KEYS[2], check, HOUR, now)
return 'wrong ' .. (wrong_per_challenge - checks)
