-- States that workers report.
--
-- {P}:states, a hash: worker id → I6 time of the report, state as `domain/worker_state.rs` packs it.
reports.KEPT = 60000

-- Reports a state, or removes it. The first report of a worker also removes the workers that have fallen silent, so that the hash holds
-- little more than those that run.
-- KEYS     states
-- ARGV     settings; worker id, state or empty
-- Answers  r
function reports.report_worker(keys, args)
  local key, worker_id, state = keys[1], args[2], args[3]
  if state == '' then
    call('HDEL', key, worker_id)
    return 'r'
  end
  local now = clock(settings_of(args[1]).test_time)
  local is_new = call('HSET', key, worker_id, pack('>I6', now) .. state) == 1
  call('PEXPIRE', key, reports.KEPT)
  if is_new then
    for _, id in ipairs(reports.silent_workers(key, now)) do call('HDEL', key, id) end
  end
  return 'r'
end

function reports.silent_workers(key, now)
  local entries, silent = call('HGETALL', key), {}
  for i = 1, #entries, 2 do
    local age = reports.age(entries[i + 1], now)
    if not age or age >= reports.KEPT then silent[#silent + 1] = entries[i] end
  end
  return silent
end

-- Milliseconds since a report; nil if it cannot be read.
function reports.age(value, now)
  if #value < 6 then return nil end
  return max(0, now - read('>I6', value))
end

-- Reported workers: reads their states.
-- KEYS     states
-- ARGV     settings; most states to answer
-- Answers  each worker id, I4 milliseconds since the report, Hc0 state
function reports.reported_workers(keys, args)
  local now, count_max = clock(settings_of(args[1]).test_time), tonumber(args[2])
  local entries, answer = call('HGETALL', keys[1]), {}
  for i = 1, #entries, 2 do
    local id, value = entries[i], entries[i + 1]
    local age = reports.age(value, now)
    if age and age < reports.KEPT and #id == 16 and #answer < count_max then
      answer[#answer + 1] = id .. pack('>I4H', age, #value - 6) .. sub(value, 7)
    end
  end
  return table.concat(answer)
end
