-- Heartbeat: records that a worker is alive, and whether it has something to send.
-- KEYS     active workers, kill switch, server
-- ARGV     now, worker, has work, a worker is active for, writes may be lost for, run id that the worker knows or '-'
-- Answers  kill switch (0 or 1), active workers, for how long writes may still be lost, run id of the server
local active_workers, kill_switch, server_key = unpack(KEYS)
local now, worker, has_work, active_for, lost_writes_for, known_server = unpack(ARGV)
now = clock(now)
redis.call('ZREMRANGEBYSCORE', active_workers, '-inf', ms(now - active_for))
if has_work == '1' then
  redis.call('ZADD', active_workers, ms(now), worker)
  redis.call('PEXPIRE', active_workers, 60000)
else
  redis.call('ZREM', active_workers, worker)
end

-- Another server than before may lack the last second of writes. Without permission for INFO a change goes unnoticed.
local info = redis.pcall('INFO', 'server')
local server = type(info) == 'string' and string.match(info, 'run_id:(%w+)') or 'unknown'
local recorded_server, since = string.match(redis.call('GET', server_key) or '', '^(%S+) (%S+)$')
local is_changed = recorded_server and recorded_server ~= server
-- The record of a change may be lost with the change itself. Then only the worker still knows the earlier server.
local is_change_lost = known_server ~= '-' and (not recorded_server or since == '0' and known_server ~= server)
if is_changed or is_change_lost then since = ms(now) end
redis.call('SET', server_key, server .. ' ' .. (since or '0'), 'PX', DAY)
local lost_for = math.max(0, tonumber(since or 0) + lost_writes_for - now)
return table.concat({redis.call('EXISTS', kill_switch), redis.call('ZCARD', active_workers), ms(lost_for), server}, ' ')
