-- Limits. A log lists the times of events, oldest first. A limit is reached while its count-th newest event is inside the
-- window. The logs of a recipient are in its packed value; a subject log has a key of its own.

-- The settings of a call, parsed once for each distinct value, then cached.
--   I6 time (0: the server's), I6 code life, I4 lease duration, I4 cooldown, B wrong attempts per challenge,
--   I4 time left at least, I4 least life left of a continued challenge, I4 rejection kept, I4 outcome kept, I4 challenge kept after its
--   expiry, B recent requests at most, H entries of a log at most, B number of limits, then each: B kind (the log that it counts),
--   B number of the limit, I4 count, I6 window; then the ids of our code keys, as ',ID,ID,' (a challenge of another key is not continued)
-- A limit that is off, or whose digest the request does not have, is not in the list. The subject logs follow each other
-- in KEYS, in the order of the list.
local SENDS, WRONG, REFUNDS, SUBJECT_PACKED, SUBJECT_LIST = 1, 2, 3, 4, 5
local parsed_settings, parsed_count = {}, 0
local function settings_of(packed_settings)
  local c = parsed_settings[packed_settings]
  if c then return c end
  c = {recipient_limits = {}, subject_limits = {}}
  local count, at
  c.test_time, c.code_life, c.lease_duration, c.cooldown, c.wrong_per_challenge, c.time_left_min, c.life_left_min, c.rejection_kept,
    c.outcome_kept, c.challenge_kept_after, c.recent_max, c.entries_max, count, at = read('>I6I6I4I4BI4I4I4I4I4BHB', packed_settings)
  c.window = DAY
  for _ = 1, count do
    local limit = {}
    limit.kind, limit.number, limit.count, limit.window, at = read('>BBI4I6', packed_settings, at)
    local limits = limit.kind >= SUBJECT_PACKED and c.subject_limits or c.recipient_limits
    limits[#limits + 1] = limit
    if limit.kind == SENDS then c.window = max(c.window, limit.window) end
  end
  c.code_key_ids = sub(packed_settings, at)
  -- For the option PX.
  c.rejection_px, c.outcome_px = decimal(c.rejection_kept), decimal(c.outcome_kept)
  -- A process has few distinct settings; a test has one for each time that it sets.
  if parsed_count == 64 then parsed_settings, parsed_count = {}, 0 end
  parsed_settings[packed_settings], parsed_count = c, parsed_count + 1
  return c
end

-- The time until a packed log allows one more event.
local function time_until_allowed(log, width, count, window, now)
  local at = #log - width * count + 1
  if at < 1 then return 0 end
  return max(0, read('>I6', log, at) + window - now)
end

-- A log without the events that have left the window.
local function inside_window(log, width, window, now)
  local at = 1
  while at <= #log and read('>I6', log, at) <= now - window do at = at + width end
  return at == 1 and log or sub(log, at)
end

local function count_inside(log, width, window, now) return #inside_window(log, width, window, now) / width end

-- Where the entry of a source, a request or a check, is in a log. The source follows the 6 bytes of the time; at other places its
-- bytes stand by chance.
local function find_entry(log, width, source)
  local at = find(log, source, 1, true)
  while at and (at - 7) % width ~= 0 do at = find(log, source, at + 1, true) end
  return at and at - 6
end

local function without(log, width, source)
  local at = find_entry(log, width, source)
  return at and sub(log, 1, at - 1) .. sub(log, at + width) or log
end

-- Adds an event, and drops those that have left the window. A source counts once. A clock that went back does not put an
-- event before an earlier one.
local function append(log, width, source, window, now, entries_max)
  if log == '' then return pack('>I6', now) .. source end
  if source ~= '' then log = without(log, width, source) end
  log = inside_window(log, width, window, now)
  if #log >= width * entries_max then log = sub(log, #log - width * (entries_max - 1) + 1) end
  local newest = #log > 0 and read('>I6', log, #log - width + 1) or 0
  return log .. pack('>I6', max(now, newest)) .. source
end

-- A log that MGET did not find may have another type. Makes sure that it is missing, before anything is charged.
local function expect_no_other_type(c, keys, first, stored)
  if #c.subject_limits == 0 then return end
  local missing = {}
  for n, limit in ipairs(c.subject_limits) do
    local at = first + n - 1
    if limit.kind == SUBJECT_PACKED and not stored[at] then missing[#missing + 1] = keys[at] end
  end
  if #missing > 0 and call('EXISTS', unpack(missing)) > 0 then
    -- Fails at the one of another type.
    for _, key in ipairs(missing) do call('GET', key) end
  end
end

-- The time until a limit on one of the recipient's own logs allows one more event.
local function own_wait(limit, s, now)
  local log, width = s.sends, REQUEST_ENTRY_BYTES
  if limit.kind == REFUNDS then log = s.refunds end
  if limit.kind == WRONG then log, width = s.wrong, CHECK_ENTRY_BYTES end
  return time_until_allowed(log, width, limit.count, limit.window, now)
end

-- The time until every limit allows one more send, and the number of the limit with the longest wait. Wrong attempts limit sends, too: a code that could not be checked is not worth a
-- message. `stored[i]` is the value at `keys[i]`; the subject logs begin at `first`.
local function limited_for(c, s, keys, first, stored, now)
  local left, number = 0, 0
  expect_no_other_type(c, keys, first, stored)
  for _, limit in ipairs(c.recipient_limits) do
    local wait = own_wait(limit, s, now)
    if wait > left then left, number = wait, limit.number end
  end
  for n, limit in ipairs(c.subject_limits) do
    local key, wait = keys[first + n - 1], 0
    if limit.kind == SUBJECT_PACKED then
      local log = read_subject_log(key, stored[first + n - 1])
      if log then wait = time_until_allowed(log, 6, limit.count, limit.window, now) end
    else
      local blocking = call('LINDEX', key, -limit.count)
      if blocking then wait = parse_time(blocking) + limit.window - now end
    end
    if wait > left then left, number = wait, limit.number end
  end
  return left, number
end

local function charge_subject_logs(c, keys, first, stored, now)
  for n, limit in ipairs(c.subject_limits) do
    local key = keys[first + n - 1]
    if limit.kind == SUBJECT_PACKED then
      local log = stored[first + n - 1]
      log = log and append(log, 6, '', limit.window, now, limit.count) or pack('>I6', now)
      call('SET', key, log, 'PX', decimal(limit.window))
    else
      if call('RPUSH', key, decimal(now)) > limit.count then call('LTRIM', key, -limit.count, -1) end
      call('PEXPIRE', key, decimal(limit.window))
    end
  end
end

-- The subject logs from which charges are refunded. Fails before any is refunded: of a list only the type is checked.
local function read_charged_logs(c, keys, first)
  local stored = {}
  for n, limit in ipairs(c.subject_limits) do
    local at = first + n - 1
    if limit.kind == SUBJECT_PACKED then
      stored[at] = read_subject_log(keys[at], call('GET', keys[at]))
    else
      call('LLEN', keys[at])
    end
  end
  return stored
end

-- Takes the charge of a request out of the subject logs of the limits that are on. Charges of one millisecond are alike: whichever
-- goes, the same times stay. A list is read from its newest charge back to this one; whole, if this one has left the window.
local function refund_subject_logs(c, keys, first, stored, admitted_at)
  for n, limit in ipairs(c.subject_limits) do
    local key = keys[first + n - 1]
    if limit.kind == SUBJECT_PACKED then
      local log, charge = stored[first + n - 1], pack('>I6', admitted_at)
      for at = log and #log - 5 or 0, 1, -6 do
        if sub(log, at, at + 5) == charge then
          call('SET', key, sub(log, 1, at - 1) .. sub(log, at + 6), 'KEEPTTL')
          break
        end
      end
    else
      call('LREM', key, -1, decimal(admitted_at))
    end
  end
end

-- The time left of a recipient's cooldown. A lookup could not tell apart the messages of two requests in doubt. So the cooldown
-- lasts for its duration, and longer while the request that started it may still be sent, until its deadline.
local function cooldown_left(s, prefix, recipient, now)
  if s.cooldown_until > now then return s.cooldown_until - now end
  if s.cooldown_deadline <= now or s.cooldown_request == '' then return 0 end
  local is_read, left = pcall(function()
    local key = prefix .. 'q' .. s.cooldown_request
    local record = find_record(key, call('GET', key), recipient)
    if not record then return 0 end
    local state, _, kept_until, _, rest_at = read_common(record)
    if kept_until <= now or state == COMPLETED then return 0 end
    -- The next field is "busy until". At least 1 s, so that a caller does not retry at once.
    return max(read('>I6', record, rest_at) - now, 1000)
  end)
  -- The record of another request cannot be read: that request may still be sent.
  return is_read and left or 1000
end
