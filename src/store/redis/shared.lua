-- State that all workers share.

-- Kill switch: reads it.
-- KEYS     kill switch
-- Answers  since when, reason; empty if it is off
local function read_kill_switch(keys)
  local switch = call('GET', keys[1])
  if switch and not find(switch, '^%d+ ') then error('the kill switch cannot be read') end
  return switch or ''
end

-- Reads the keys that all requests share. Fails at the first that cannot be read. True if the kill switch is on.
-- KEYS     kill switch, log of all sends packed and as a list, then sorted sets: the minutes that have messages, suppressed
--          recipients, active workers; then primary (the last server), which is not read
local function check_shared_keys(keys)
  local is_stopped = read_kill_switch(keys) ~= ''
  read_subject_log(keys[2], call('GET', keys[2]))
  local newest = call('LINDEX', keys[3], -1)
  if newest then parse_time(newest) end
  for i = 4, 6 do call('ZCARD', keys[i]) end
  return is_stopped
end

local function check_country(key)
  local value = call('GET', key)
  if value then read_country(key, value) end
end

-- A worker of layout 1 writes {P}:server with a day to live at each heartbeat, and could send again what was
-- moved. Answers whether one is running, and whether one has run since the opening, which deletes the key.
local SERVER_WRITTEN_WITHIN = 15000
local function old_worker(prefix)
  local left = call('PTTL', prefix .. 'server')
  return left > DAY - SERVER_WRITTEN_WITHIN, left ~= -2
end

-- The run id and the mode (`standalone`, `cluster`) of the server that runs this; without permission for INFO `unknown`.
function shards.read_server()
  local info = redis.pcall('INFO', 'server')
  if type(info) ~= 'string' then return 'unknown', 'unknown' end
  return string.match(info, 'run_id:(%w+)') or 'unknown', string.match(info, '%a+_mode:(%w+)') or 'unknown'
end

-- Compares the server that runs this with the last one that a key, `RUN_ID SINCE`, names, and with the one that the worker knows (`-`:
-- none). Answers for how long it may still have lost writes, its run id and its mode.
function shards.note_server(primary_key, known_run_id, lost_writes_for, now)
  -- Another server than before may have lost the last second of writes. Without permission for INFO a change goes unnoticed.
  local run_id, mode = shards.read_server()
  local recorded_primary = redis.pcall('GET', primary_key)
  local text = type(recorded_primary) == 'string' and recorded_primary or ''
  local recorded_run_id, since = string.match(text, '^(%S+) (%d+)$')
  -- A value that cannot be read counts as that of another server.
  local is_changed = recorded_primary and recorded_run_id ~= run_id
  -- A failover can lose this key, or what another server wrote to it. So a worker that knows another server also means a change,
  -- unless the key tells of one just now. A worker that has just started may have written a `since` of 0.
  local is_recent = recorded_run_id and now - tonumber(since) < tonumber(lost_writes_for)
  local is_unrecorded = known_run_id ~= '-' and (not recorded_run_id or known_run_id ~= run_id and not is_recent)
  if is_changed or is_unrecorded then since = decimal(now) end
  call('SET', primary_key, run_id .. ' ' .. (since or '0'), 'PX', decimal(DAY))
  return max(0, tonumber(since or 0) + lost_writes_for - now), run_id, mode
end

-- Writable: makes sure that the server takes writes, and changes nothing.
-- KEYS     primary
-- Answers  mode of the server, as in a heartbeat
function shards.check_writable(keys)
  -- As the first write of a script, SET is refused by a full memory.
  local value = redis.pcall('GET', keys[1])
  call('SET', keys[1], type(value) == 'string' and value or '', 'XX', 'KEEPTTL')
  return select(2, shards.read_server())
end

-- Heartbeat: counts a worker as active, or no longer, and reads the shared state.
-- KEYS     those of `check_shared_keys`, the format, the log filter, then a country's suppression if a step could not read it
-- ARGV     settings; worker id, is active (1: it has something to send), how long a worker stays active,
--          how long a new server may have lost writes, run id of the server that the worker knows or '-', format
-- Answers  kill switch (0 or 1), active workers, for how long it may still have lost writes, run id and mode of the server, and the
--          words of the log filter, if one is in force | f NUMBER: the
--          data has another layout | w: an old worker is running | n: the format is missing, or not the one that the worker knows: it
--          must open the store again
local function heartbeat(keys, args)
  local active_workers, primary_key, format_key, log_filter, country = unpack(keys, 6, 10)
  local worker_id, is_active, active_for, lost_writes_for, known_run_id, known_format = unpack(args, 2, 7)
  local now = clock(settings_of(args[1]).test_time)
  local recorded_format = redis.pcall('GET', format_key)
  local recorded_number = type(recorded_format) == 'string' and string.match(recorded_format, '^%d+')
  if recorded_number and recorded_number ~= decimal(LAYOUT) then return 'f ' .. recorded_number end
  local is_running, has_run = old_worker(sub(format_key, 1, -1 - #'format'))
  if is_running then return 'w' end
  -- A flush, or a failover right after the opening, loses the format with what was copied before it.
  if recorded_format ~= known_format or has_run then return 'n' end
  local is_stopped = check_shared_keys(keys)
  if country then check_country(country) end
  -- It writes first, because a full memory refuses SET only as the first write of a script. So the heartbeat fails then.
  local lost_writes_left, run_id, mode = shards.note_server(primary_key, known_run_id, lost_writes_for, now)
  call('ZREMRANGEBYSCORE', active_workers, '-inf', decimal(now - active_for))
  if is_active == '1' then
    call('ZADD', active_workers, decimal(now), worker_id)
    call('PEXPIRE', active_workers, 60000)
  else
    call('ZREM', active_workers, worker_id)
  end
  local active = call('ZCARD', active_workers)
  local filter = reports.words_of_log_filter(redis.pcall('GET', log_filter), now)
  local words = {is_stopped and 1 or 0, active, decimal(lost_writes_left), run_id, mode}
  if filter ~= '' then words[6] = filter end
  return table.concat(words, ' ')
end

-- Idempotency key: reads the request that a key names, and binds a free key.
-- KEYS     idempotency key: I6 until, c16 digest of the request
-- ARGV     settings; digest of the request or empty, time kept
-- Answers  the digest that the key is bound to, by this call or an earlier one; empty if it is free
local function idempotency_key(keys, args)
  local request, kept = args[2], args[3]
  local now = clock(settings_of(args[1]).test_time)
  local recorded = call('GET', keys[1])
  if recorded then
    if #recorded ~= 22 then error('a key cannot be read') end
    local bound_until, bound = read('>I6c16', recorded)
    if bound_until > now then return bound end
  end
  if request ~= '' then call('SET', keys[1], pack('>I6c16', now + kept, request), 'PX', kept) end
  return request
end

-- Kill switch: turns it on or off.
-- KEYS     kill switch
-- ARGV     settings; change (on|off), reason
-- Answers  the switch before the change, as `read_kill_switch`
local function kill_switch(keys, args)
  local change, reason = args[2], args[3]
  local previous = redis.pcall('GET', keys[1])
  -- A damaged switch can still be set or deleted.
  if previous and (type(previous) == 'table' or not find(previous, '^%d+ ')) then previous = false end
  if change == 'on' then
    local since = previous and string.match(previous, '^%S+') or decimal(clock(settings_of(args[1]).test_time))
    call('SET', keys[1], since .. ' ' .. reason)
  elseif change == 'off' then
    call('DEL', keys[1])
  end
  return previous or ''
end

-- Shared data: reads what all requests share. Fails at the first key that cannot be read. Only this step notices a country's key of
-- the wrong type. Admission reads it with MGET, so the country counts as not suppressed.
-- KEYS     those of `check_shared_keys`; those of the countries and the book follow from the first
-- Answers  r: readable
local function check_shared_data(keys)
  check_shared_keys(keys)
  local prefix, first, last = sub(keys[1], 1, -1 - #'kill'), string.byte('AZ', 1, 2)
  reports.spend.read_book(prefix .. 'e')
  for a = first, last do
    for b = first, last do check_country(prefix .. 'c' .. string.char(a, b)) end
  end
  return 'r'
end
