-- Messages whose final report is overdue, one a line: how it is with it, and its words.
-- KEYS  receipts; the records are found by what its members tell
local now, wait_max, count_max, again_min, prefix = unpack(ARGV)
now = clock(now)
local overdue = {}
for _, member in ipairs(redis.call('ZRANGE', KEYS[1], '-inf', ms(now), 'BYSCORE', 'LIMIT', 0, count_max)) do
  local recipient, sent, request = string.match(member, '^%S+ (%S+) (%S+) (%S+)$')
  local r = read(redis.call('GET', prefix .. ':' .. recipient .. ':req:' .. request), now)
  local waited = math.max(0, now - sent)
  local known = not r or select(4, report(r)) == '1'
  if known or waited >= tonumber(wait_max) then
    redis.call('ZREM', KEYS[1], member)
  else
    redis.call('ZADD', KEYS[1], ms(now + math.max(waited, tonumber(again_min))), member)
  end
  if not known then
    overdue[#overdue + 1] = (waited >= tonumber(wait_max) and 'lapsed ' or 'due ') .. member
  end
end
return table.concat(overdue, '\n')
