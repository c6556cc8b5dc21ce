-- The log filter that an operator sets for all processes.
--
-- {P}:log-level: `SET_AT UNTIL SET_BY FILTER`, words without spaces.

-- The filter that a value has, in the words of an answer; empty if there is none, or its time is over.
function reports.words_of_log_filter(value, now)
  if type(value) ~= 'string' then return '' end
  local set_at, till, set_by, filter = string.match(value, '^(%d+) (%d+) (%S+) (%S+)$')
  local left = (tonumber(till or '') or 0) - now
  if left <= 0 then return '' end
  return table.concat({decimal(left), set_at, set_by, filter}, ' ')
end

-- Log filter: reads it.
-- KEYS     log filter
-- ARGV     settings
-- Answers  milliseconds left, when it was set, by whom, the filter; empty if there is none
function reports.read_log_filter(keys, args)
  return reports.words_of_log_filter(call('GET', keys[1]), clock(settings_of(args[1]).test_time))
end

-- Log filter: sets it for a while, or ends it. A damaged one can still be replaced.
-- KEYS     log filter
-- ARGV     settings; milliseconds (0: end it), set by, filter
-- Answers  the filter before the change, as `read_log_filter`
function reports.set_log_filter(keys, args)
  local duration, set_by, filter = tonumber(args[2]), args[3], args[4]
  local now = clock(settings_of(args[1]).test_time)
  local previous = reports.words_of_log_filter(redis.pcall('GET', keys[1]), now)
  if duration > 0 then
    local value = table.concat({decimal(now), decimal(now + duration), set_by, filter}, ' ')
    call('SET', keys[1], value, 'PX', decimal(duration))
  else
    call('DEL', keys[1])
  end
  return previous
end
