-- Is a typed code right? Counts before it compares.
-- KEYS  challenge, wrong
-- ARGV  now, check id, wrong tries a challenge, wrong tries an hour, how long it is kept after its end, then a kid and a digest for each key
local now, check, challenge_max, hour_max, kept_after = unpack(ARGV, 1, 5)
now = clock(now)

local c = redis.call('HMGET', KEYS[1], 'kid', 'digest', 'expires', 'used', 'wrong')
if not c[1] or tonumber(c[3]) + kept_after <= now then return 'none' end
if c[4] then return c[4] == check and 'verified' or 'used' end
local expires, wrong = tonumber(c[3]), tonumber(c[5])
if expires <= now then return 'expired ' .. ms(expires) end
-- Asked again after its answer was lost: it was counted then.
if redis.call('ZSCORE', KEYS[2], check) then return 'wrong ' .. math.max(0, challenge_max - wrong) end
-- First what another code does not help against.
local locked = wait(KEYS[2], hour_max, HOUR, now)
if locked > 0 then return 'locked ' .. ms(locked) end
if wrong >= tonumber(challenge_max) then return 'locked 0' end
local typed
for i = 6, #ARGV, 2 do
  if ARGV[i] == c[1] then typed = ARGV[i + 1] end
end
if not typed then return 'key' end

wrong = redis.call('HINCRBY', KEYS[1], 'wrong', 1)
if typed == c[2] then
  redis.call('HSET', KEYS[1], 'used', check)
  return 'verified'
end
append(KEYS[2], check, HOUR, now)
return 'wrong ' .. (challenge_max - wrong)
