-- Is a typed code right? Counts before it compares.
-- KEYS  challenge, wrong
-- ARGV  now, check id, wrong tries a challenge, wrong tries an hour, how long it is kept after its end, then a kid and a digest for each key
local now, check, challenge_max, hour_max, kept_after = unpack(ARGV, 1, 5)
local HOUR = 3600000
now, challenge_max, hour_max = tonumber(now), tonumber(challenge_max), tonumber(hour_max)
if now == 0 then
  local t = redis.call('TIME')
  now = t[1] * 1000 + math.floor(t[2] / 1000)
end
local function ms(n) return string.format('%.0f', n) end

local c = redis.call('HMGET', KEYS[1], 'kid', 'digest', 'expires', 'used', 'wrong')
if not c[1] or tonumber(c[3]) + kept_after <= now then return 'none' end
if c[4] then return c[4] == check and 'verified' or 'used' end
local expires, wrong = tonumber(c[3]), tonumber(c[5])
if expires <= now then return 'expired ' .. ms(expires) end
-- Asked again after its answer was lost: it was counted then.
if redis.call('ZSCORE', KEYS[2], check) then return 'wrong ' .. math.max(0, challenge_max - wrong) end
if wrong >= challenge_max then return 'locked 0' end
if hour_max > 0 then
  local blocking = redis.call('ZREVRANGE', KEYS[2], hour_max - 1, hour_max - 1, 'WITHSCORES')
  local wait = blocking[2] and tonumber(blocking[2]) + HOUR - now or 0
  if wait > 0 then return 'locked ' .. ms(wait) end
end
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
redis.call('ZADD', KEYS[2], ms(now), check)
redis.call('ZREMRANGEBYSCORE', KEYS[2], '-inf', ms(now - HOUR))
redis.call('PEXPIRE', KEYS[2], HOUR)
return 'wrong ' .. (challenge_max - wrong)
