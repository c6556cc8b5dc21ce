-- A worker lives. Tells it whether sending is stopped, how many workers have something to send, how much longer the
-- store may have forgotten something, and which server this is.
-- KEYS  busy, kill, server
local now, worker, busy, busy_for, forgetful_for, known_server = unpack(ARGV)
now = clock(now)
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', ms(now - busy_for))
if busy == '1' then
  redis.call('ZADD', KEYS[1], ms(now), worker)
  redis.call('PEXPIRE', KEYS[1], 60000)
else
  redis.call('ZREM', KEYS[1], worker)
end

-- Another server than before may lack the last second. Where INFO is not allowed this goes unnoticed.
local info = redis.pcall('INFO', 'server')
local server = type(info) == 'string' and string.match(info, 'run_id:(%w+)') or 'unknown'
local before, since = string.match(redis.call('GET', KEYS[3]) or '', '^(%S+) (%S+)$')
local changed = before and before ~= server
local lost = known_server ~= '-' and (not before or since == '0' and known_server ~= server)
if changed or lost then since = ms(now) end
redis.call('SET', KEYS[3], server .. ' ' .. (since or '0'), 'PX', DAY)
local forgetful = math.max(0, tonumber(since or 0) + forgetful_for - now)
return table.concat({redis.call('EXISTS', KEYS[2]), redis.call('ZCARD', KEYS[1]), ms(forgetful), server}, ' ')
