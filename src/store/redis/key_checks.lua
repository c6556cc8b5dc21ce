-- Key check values: whether processes have the same keys.
--
-- {P}:keys, a hash: name of a key (a letter of its use, and its id) → I6 time of the last comparison by a process with this value,
-- c8 value, as `domain/key_check.rs` makes it. No key follows from a value.
reports.KEY_CHECK_KEPT = 2592000000

-- Value of a record, and its age; nil if there is none, or if it is too old or cannot be read.
function reports.key_check(record, now)
  if not record or #record ~= 14 then return nil end
  local at, value = read('>I6c8', record)
  if at + reports.KEY_CHECK_KEPT <= now then return nil end
  return value
end

-- Compares key check values with the recorded ones, and records those without a record.
-- KEYS     keys
-- ARGV     settings; accept (1: record them all), then name and value of each key
-- Answers  a character for each: = or, where another value is recorded, !
function reports.check_keys(keys, args)
  local key, accepts = keys[1], args[2] == '1'
  local now, answer = clock(settings_of(args[1]).test_time), {}
  local entries, recorded = call('HGETALL', key), {}
  for i = 1, #entries, 2 do
    local value = reports.key_check(entries[i + 1], now)
    if value then recorded[entries[i]] = value else call('HDEL', key, entries[i]) end
  end
  for i = 3, #args, 2 do
    local name, value = args[i], args[i + 1]
    local is_ours = accepts or (recorded[name] or value) == value
    if is_ours then call('HSET', key, name, pack('>I6', now) .. value) end
    answer[#answer + 1] = is_ours and '=' or '!'
  end
  call('PEXPIRE', key, decimal(reports.KEY_CHECK_KEPT))
  return table.concat(answer)
end

-- Recorded keys: reads the key check values.
-- KEYS     keys
-- ARGV     settings
-- Answers  each Bc0 name, c8 value
function reports.recorded_keys(keys, args)
  local now = clock(settings_of(args[1]).test_time)
  local entries, answer = call('HGETALL', keys[1]), {}
  for i = 1, #entries, 2 do
    local name, value = entries[i], reports.key_check(entries[i + 1], now)
    if value and #name < 256 then answer[#answer + 1] = pack('>B', #name) .. name .. value end
  end
  return table.concat(answer)
end
