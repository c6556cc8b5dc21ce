-- The recipients that nothing is sent to, those that it lasts longest for first: a line each.
-- KEYS  suppressions
local now, count, prefix = unpack(ARGV)
now = clock(now)
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', ms(now))
local lines = {}
for _, recipient in ipairs(redis.call('ZRANGE', KEYS[1], '+inf', '-inf', 'BYSCORE', 'REV', 'LIMIT', 0, count)) do
  local name = prefix .. ':' .. recipient
  local line = suppression(name .. ':suppressed', name .. ':suppression', now)
  if line then lines[#lines + 1] = line else redis.call('ZREM', KEYS[1], recipient) end
end
return table.concat(lines, '\n')
