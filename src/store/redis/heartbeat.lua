-- Heartbeat: records that a worker is alive, and whether it has something to send.
-- KEYS     active workers, kill switch, server
-- ARGV     now, worker, has work, a worker is active for, writes may be lost for, run id that the worker knows or '-'
-- Answers  kill switch (0 or 1), active workers, for how long writes may still be lost, run id of the server
local now, worker, has_work, active_for, lost_writes_for, known_server = unpack(ARGV)
now = clock(now)
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', ms(now - active_for))
if has_work == '1' then
  redis.call('ZADD', KEYS[1], ms(now), worker)
  redis.call('PEXPIRE', KEYS[1], 60000)
else
  redis.call('ZREM', KEYS[1], worker)
end

-- Another server than before may lack the last second of writes. Without permission for INFO a change goes unnoticed.
local info = redis.pcall('INFO', 'server')
local server = type(info) == 'string' and string.match(info, 'run_id:(%w+)') or 'unknown'
local recorded_server, since = string.match(redis.call('GET', KEYS[3]) or '', '^(%S+) (%S+)$')
local is_changed = recorded_server and recorded_server ~= server
-- The worker knows another server, and the record of the change is lost itself.
local is_change_lost = known_server ~= '-' and (not recorded_server or since == '0' and known_server ~= server)
if is_changed or is_change_lost then since = ms(now) end
redis.call('SET', KEYS[3], server .. ' ' .. (since or '0'), 'PX', DAY)
local lost_for = math.max(0, tonumber(since or 0) + lost_writes_for - now)
return table.concat({redis.call('EXISTS', KEYS[2]), redis.call('ZCARD', KEYS[1]), ms(lost_for), server}, ' ')
