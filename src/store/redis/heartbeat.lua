-- Heartbeat: counts a worker as active, or no longer, and reads the shared state.
-- KEYS     active workers, kill switch, server, log of all sends, expected receipts, suppressed recipients,
--          then a country's suppression if a step could not read it
-- ARGV     now, worker id, is active (1: it has something to send), how long a worker stays active,
--          how long a new server may lack writes, run id of the server that the worker knows or '-'
-- Answers  kill switch (0 or 1), active workers, for how long the server may still lack writes, run id of the server
local active_workers, kill_switch, server_key, all_sends, expected_receipts, suppressions, country = unpack(KEYS)
local now, worker_id, is_active, active_for, may_lack_writes_for, known_server = unpack(ARGV)
now = clock(now)
local is_stopped = check_shared_keys({expected_receipts, suppressions}, all_sends, kill_switch)
if country then read_suppression(redis.call('GET', country)) end
redis.call('ZREMRANGEBYSCORE', active_workers, '-inf', decimal(now - active_for))
if is_active == '1' then
  redis.call('ZADD', active_workers, decimal(now), worker_id)
  redis.call('PEXPIRE', active_workers, 60000)
else
  redis.call('ZREM', active_workers, worker_id)
end

-- Another server than before may lack the last second of writes. Without permission for INFO a change goes unnoticed.
local info = redis.pcall('INFO', 'server')
local server = type(info) == 'string' and string.match(info, 'run_id:(%w+)') or 'unknown'
local recorded = redis.pcall('GET', server_key)
local recorded_server, since = string.match(type(recorded) == 'string' and recorded or '', '^(%S+) (%d+)$')
-- A record that cannot be read counts as that of another server.
local is_changed = recorded and recorded_server ~= server
-- A failover can lose this key. A worker just started then writes it with `since` 0, as if nothing had changed; only a worker
-- that knows the old run id notices.
local is_key_lost = known_server ~= '-' and (not recorded_server or since == '0' and known_server ~= server)
if is_changed or is_key_lost then since = decimal(now) end
redis.call('SET', server_key, server .. ' ' .. (since or '0'), 'PX', DAY)
local lacking_for = math.max(0, tonumber(since or 0) + may_lack_writes_for - now)
local active = redis.call('ZCARD', active_workers)
return table.concat({is_stopped and 1 or 0, active, decimal(lacking_for), server}, ' ')
