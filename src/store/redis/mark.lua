-- How far the handling of an admitted request has come.
-- KEYS  record
local now, owner, mark, attempt, span = unpack(ARGV)
now = tonumber(now)
if now == 0 then
  local t = redis.call('TIME')
  now = t[1] * 1000 + math.floor(t[2] / 1000)
end
local r = redis.call('HMGET', KEYS[1], 'owner', 'outcome', 'until')
if r[1] ~= owner or r[2] or tonumber(r[3]) <= now then return 'lost' end
local due = string.format('%.0f', now + span)
if mark == 'waiting' then
  redis.call('HSET', KEYS[1], 'state', 'waiting', 'lease', due)
elseif mark == 'sending' then
  redis.call('HSET', KEYS[1], 'state', 'sending', 'attempt', attempt, 'lease', due, 't0', string.format('%.0f', now))
else
  redis.call('HSET', KEYS[1], 'state', 'waiting', 'owner', '', 'attempt', attempt)
end
return 'held'
