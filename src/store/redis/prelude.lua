-- What every script begins with.
local HOUR, DAY = 3600000, 86400000

-- The time in milliseconds: the server's own, unless a test gives another.
local function clock(given)
  if given ~= '0' then return tonumber(given) end
  local t = redis.call('TIME')
  return t[1] * 1000 + math.floor(t[2] / 1000)
end

-- A number as text: Lua itself would write a large one with an exponent.
local function ms(n) return string.format('%.0f', n) end

-- How long until a log of events allows one more: the limit is reached exactly while its count-th newest event is
-- inside the window.
local function wait(key, count, window, now)
  if count == '0' then return 0 end
  local blocking = redis.call('ZREVRANGE', key, count - 1, count - 1, 'WITHSCORES')
  if not blocking[2] then return 0 end
  return math.max(0, tonumber(blocking[2]) + window - now)
end

-- Adds an event to a log, once for each name, and lets go of what has left the window.
local function append(key, name, window, now)
  redis.call('ZADD', key, ms(now), name)
  redis.call('ZREMRANGEBYSCORE', key, '-inf', ms(now - window))
  redis.call('PEXPIRE', key, ms(window))
end
