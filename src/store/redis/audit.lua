-- Records of operators' acts, until a worker has published them.
--
-- {P}:outbox, of all requests and of each shard: a list of records, oldest first, which are JSON and opaque here. {P}:outbox-dropped:
-- how many stopping acts left no record. {P}:outbox-lease: the publisher, and until when it publishes alone.
reports.audit = {ENTRIES_MAX = 10000, FULL = 'audit full', STOPS = '1', HAS_ROOM = '2'}

-- Adds a record after its first character: STOPS, HAS_ROOM if it is added in any case, or another one. False if there is no room.
function reports.audit.append(outbox, record)
  if sub(record, 1, 1) ~= reports.audit.HAS_ROOM and call('LLEN', outbox) >= reports.audit.ENTRIES_MAX then return false end
  call('RPUSH', outbox, sub(record, 2))
  return true
end

function reports.audit.drop(outbox)
  local key = outbox .. '-dropped'
  call('SET', key, decimal(parse_time(call('GET', key) or '0') + 1))
end

-- A step that can also record an operator's act: then the outbox is one more key behind its own, and the record one more argument. The
-- record comes first: a step that fails takes it back, and one whose answer is `unchanged`. Without room the step is not run, and the
-- answer is FULL. Nothing about the record keeps a step from being run whose act stops something.
function reports.audit.recorded(step, unchanged)
  return function(keys, args)
    local outbox, record = keys[#keys], args[#args]
    if not find(outbox, '^{[^}]*}:outbox$') then return step(keys, args) end
    local stops = sub(record, 1, 1) == reports.audit.STOPS
    local is_readable, is_recorded = pcall(reports.audit.append, outbox, record)
    if not stops and not is_readable then error(is_recorded, 0) end
    if not stops and not is_recorded then return reports.audit.FULL end
    is_recorded = is_readable and is_recorded
    if not is_recorded then pcall(reports.audit.drop, outbox) end
    local is_done, answer = pcall(step, {unpack(keys, 1, #keys - 1)}, {unpack(args, 1, #args - 1)})
    if is_done and answer ~= unchanged then return answer end
    local key_to_blame = last_key
    if is_recorded then call('LREM', outbox, -1, sub(record, 2)) end
    last_key = key_to_blame
    if is_done then return answer end
    error(answer, 0)
  end
end

-- The acts.
reports.audit.kill_switch = reports.audit.recorded(kill_switch)
reports.audit.set_log_filter = reports.audit.recorded(reports.set_log_filter)
reports.audit.suppress = reports.audit.recorded(suppress)
reports.audit.override = reports.audit.recorded(reports.defence.override, 'f')
-- One that the store has no step for.
-- Answers  r: recorded
reports.audit.record = reports.audit.recorded(function() return 'r' end)

-- Outbox: reads the oldest records, or the newest.
-- KEYS     outbox
-- ARGV     B 1 the newest, H how many at most
-- Answers  I4 how many there are, I6 how many stopping acts left none, then each record, oldest first: I4c0
function reports.audit.read(keys, args)
  local newest, count_max = read('>BH', args[1])
  local length, dropped = call('LLEN', keys[1]), parse_time(call('GET', keys[1] .. '-dropped') or '0')
  local first = newest == 1 and max(0, length - count_max) or 0
  local records = {pack('>I4I6', length, dropped)}
  for at = first, min(length, first + count_max) - 1 do
    local record = call('LINDEX', keys[1], at)
    -- Others than we may have written it, so its length may need more than two bytes.
    records[#records + 1] = pack('>I4c0', #record, record)
  end
  return table.concat(records)
end

-- Outbox: looks for a record, the newest first.
-- KEYS     outbox
-- ARGV     id of the record
-- Answers  1 if it is there, 0 if not
function reports.audit.holds(keys, args)
  for at = call('LLEN', keys[1]) - 1, 0, -1 do
    if find(call('LINDEX', keys[1], at), args[1], 1, true) then return '1' end
  end
  return '0'
end

-- Outbox: removes records. One that is not there was removed by another call.
-- KEYS     outbox
-- ARGV     the records
-- Answers  r: removed
function reports.audit.remove(keys, args)
  for _, record in ipairs(args) do call('LREM', keys[1], 1, record) end
  return 'r'
end

-- Publishing: takes the lease of one publisher at a time, or renews it. One that cannot be read is free.
-- KEYS     outbox
-- ARGV     settings, publisher, time of the lease
-- Answers  1 if it has the lease, 0 if another one has it
function reports.audit.lease(keys, args)
  local now, publisher, duration = clock(settings_of(args[1]).test_time), args[2], tonumber(args[3])
  local key = keys[1] .. '-lease'
  local lease = redis.pcall('GET', key)
  local holder, till = string.match(type(lease) == 'string' and lease or '', '^(%d+) (%d+)$')
  if holder and holder ~= publisher and tonumber(till) > now then return '0' end
  call('SET', key, publisher .. ' ' .. decimal(now + duration), 'PX', decimal(duration))
  return '1'
end
