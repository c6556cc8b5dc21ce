-- Suppressions: lists suppressed recipients, latest end first.
-- KEYS     suppressions (the list of all suppressed recipients); the keys of each follow from the recipient
-- ARGV     now, how many at most, prefix of all keys
-- Answers  a line each: provider code, until when or '-', since when, masked recipient, reason
local suppressions = KEYS[1]
local now, count, prefix = unpack(ARGV)
now = clock(now)
redis.call('ZREMRANGEBYSCORE', suppressions, '-inf', decimal(now))
local lines = {}
for _, recipient in ipairs(redis.call('ZRANGE', suppressions, '+inf', '-inf', 'BYSCORE', 'REV', 'LIMIT', 0, count)) do
  local key = prefix .. ':' .. recipient
  local line = suppression_line(key .. ':suppressed', key .. ':suppression', now)
  if line then lines[#lines + 1] = line else redis.call('ZREM', suppressions, recipient) end
end
return table.concat(lines, '\n')
