-- Records of operators' acts, until a worker has published them.
--
-- {P}:outbox, of all requests and of each shard: a list of records, oldest first, which are JSON and opaque here. {P}:outbox-dropped:
-- how many stopping acts found no room for their record.
reports.audit = {ENTRIES_MAX = 10000, FULL = 'audit full'}

-- Adds a record after its first character, 1 if its act stops something. False if there is no room.
function reports.audit.append(outbox, record)
  if call('LLEN', outbox) < reports.audit.ENTRIES_MAX then
    call('RPUSH', outbox, sub(record, 2))
    return true
  end
  if sub(record, 1, 1) ~= '1' then return false end
  local key = outbox .. '-dropped'
  call('SET', key, decimal(parse_time(call('GET', key) or '0') + 1))
  return true
end

-- A step that can also record an operator's act: then the outbox is one more key behind its own, and the record one more argument. The
-- record comes first: a step that fails takes it back, and one whose answer is `unchanged`. Without room the step is not run, and the
-- answer is FULL.
function reports.audit.recorded(step, unchanged)
  return function(keys, args)
    local outbox, record = keys[#keys], args[#args]
    if not find(outbox, '^{[^}]*}:outbox$') then return step(keys, args) end
    if not reports.audit.append(outbox, record) then return reports.audit.FULL end
    local is_done, answer = pcall(step, {unpack(keys, 1, #keys - 1)}, {unpack(args, 1, #args - 1)})
    if is_done and answer ~= unchanged then return answer end
    local key_to_blame = last_key
    call('LREM', outbox, -1, sub(record, 2))
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
-- Answers  I4 how many there are, I6 how many found no room, then each record, oldest first: Hc0
function reports.audit.read(keys, args)
  local newest, count_max = read('>BH', args[1])
  local length, dropped = call('LLEN', keys[1]), parse_time(call('GET', keys[1] .. '-dropped') or '0')
  local first = newest == 1 and max(0, length - count_max) or 0
  local records = {pack('>I4I6', length, dropped)}
  for at = first, min(length, first + count_max) - 1 do
    local record = call('LINDEX', keys[1], at)
    records[#records + 1] = pack('>Hc0', #record, record)
  end
  return table.concat(records)
end

-- Outbox: removes records. One that is not there was removed by another call.
-- KEYS     outbox
-- ARGV     the records
-- Answers  r: removed
function reports.audit.remove(keys, args)
  for _, record in ipairs(args) do call('LREM', keys[1], 1, record) end
  return 'r'
end
