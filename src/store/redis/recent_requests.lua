-- Recent requests: lists the newest requests of a recipient within a day.
-- KEYS     sends (charged requests), recent (requests that ended without a send)
-- ARGV     now, how many of each key
-- Answers  request id and time of each request, all in one line
local now, count = unpack(ARGV)
now = clock(now)
local words = {}
for _, key in ipairs(KEYS) do
  local newest = redis.call('ZRANGE', key, '+inf', '(' .. decimal(now - DAY), 'BYSCORE', 'REV', 'LIMIT', 0, count, 'WITHSCORES')
  for _, word in ipairs(newest) do words[#words + 1] = word end
end
return table.concat(words, ' ')
