-- The end of a request. The first one said stays.
-- KEYS  record, sends, refunds, all, user, ip
local now, owner, outcome, kept, nothing_sent, refund, request, member = unpack(ARGV)
now = clock(now)
local seen = redis.call('GET', KEYS[1])
if seen then
  local state, held_by, till, rest = string.match(seen, '^(%S+) (%S+) (%S+) (.+)$')
  if tonumber(till) > now then
    if state == 'ended' then return held_by == owner and 'said' or 'before ' .. rest end
    -- Only who holds a request knows that nothing of it was sent.
    if held_by ~= owner and nothing_sent == '1' then return 'held' end
  end
end
redis.call('SET', KEYS[1], table.concat({'ended', owner, ms(now + kept), outcome}, ' '), 'PX', kept)
if refund == 'counted' then
  append(KEYS[3], request, DAY, now)
end
if refund ~= 'none' then
  redis.call('ZREM', KEYS[2], request)
  for i = 4, 6 do redis.call('ZREM', KEYS[i], member) end
end
return 'said'
