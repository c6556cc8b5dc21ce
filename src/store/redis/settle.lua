-- The end of a request. The first one said stays.
-- KEYS  record, sends, all, user, ip
local now, owner, outcome, status, kept, refund, request, member = unpack(ARGV)
now = tonumber(now)
if now == 0 then
  local t = redis.call('TIME')
  now = t[1] * 1000 + math.floor(t[2] / 1000)
end
local r = redis.call('HMGET', KEYS[1], 'owner', 'outcome', 'until')
if r[2] and tonumber(r[3]) > now then
  if r[1] == owner then return 'said' end
  return 'before ' .. r[2]
end
redis.call('DEL', KEYS[1])
redis.call('HSET', KEYS[1], 'state', status, 'owner', owner, 'outcome', outcome,
  'until', string.format('%.0f', now + kept))
redis.call('PEXPIRE', KEYS[1], kept)
if refund == '1' then
  redis.call('ZREM', KEYS[2], request)
  for i = 3, 5 do redis.call('ZREM', KEYS[i], member) end
end
return 'said'
