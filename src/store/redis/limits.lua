-- Limits. A log lists the times of events, oldest first. A limit is reached while its count-th newest event is inside the
-- window. The logs of a recipient are in its packed value; those that recipients share have keys of their own.

-- The settings of a call, read once for each wording of them.
--   I6 time (0: the server's), I6 code life, I4 lease duration, I4 cooldown, B wrong attempts per challenge,
--   I4 time left at least, I4 least life left of a continued challenge, I4 rejection kept, I4 outcome kept, I4 challenge kept after its
--   expiry, B recent requests at most, H entries of a log at most, B number of limits, then each: B its log (1 sends, 2 wrong
--   attempts, 3 refunds, 4 shared and packed, 5 shared and a list), I4 count, I6 window; then the ids of the keys whose codes
--   can be sent, as ',ID,ID,'
-- A limit that is off, or whose digest the request does not have, is not in the list. Shared logs have the last keys of a
-- call, in the order of the list.
local SENDS, WRONG, REFUNDS, PACKED, LIST = 1, 2, 3, 4, 5
local known_settings, known_count = {}, 0
local function settings_of(wording)
  local c = known_settings[wording]
  if c then return c end
  c = {limits = {}, shared = {}, refunds_max = 1}
  local count, at
  c.test_time, c.code_life, c.lease_duration, c.cooldown, c.wrong_per_challenge, c.time_left_min, c.life_left_min, c.rejection_kept,
    c.outcome_kept, c.challenge_kept_after, c.recent_max, c.entries_max, count, at = read('>I6I6I4I4BI4I4I4I4I4BHB', wording)
  c.window = DAY
  for _ = 1, count do
    local limit = {}
    limit.log, limit.count, limit.window, at = read('>BI4I6', wording, at)
    if limit.log >= PACKED then c.shared[#c.shared + 1] = limit else c.limits[#c.limits + 1] = limit end
    if limit.log == SENDS then c.window = max(c.window, limit.window) end
  end
  c.known_kids = sub(wording, at)
  c.window_px, c.rejection_px, c.outcome_px = decimal(c.window), decimal(c.rejection_kept), decimal(c.outcome_kept)
  -- A process has few wordings; a test has one for each time that it sets.
  if known_count == 64 then known_settings, known_count = {}, 0 end
  known_settings[wording], known_count = c, known_count + 1
  return c
end

-- The time until a packed log allows one more event.
local function wait(log, width, count, window, now)
  local at = #log - width * count + 1
  if at < 1 then return 0 end
  return max(0, read('>I6', log, at) + window - now)
end

-- A log without the events that have left the window.
local function inside(log, width, window, now)
  local at = 1
  while at <= #log and read('>I6', log, at) <= now - window do at = at + width end
  return at == 1 and log or sub(log, at)
end

local function used(log, width, window, now) return #inside(log, width, window, now) / width end

-- Where the entry of a request or check is in a log.
local function find_entry(log, width, name)
  local at = find(log, name, 1, true)
  while at and (at - 7) % width ~= 0 do at = find(log, name, at + 1, true) end
  return at and at - 6
end

local function without(log, width, name)
  local at = find_entry(log, width, name)
  return at and sub(log, 1, at - 1) .. sub(log, at + width) or log
end

-- Adds an event, and drops those that have left the window. A name counts once. A clock that went back does not put an
-- event before an earlier one.
local function append(log, width, name, window, now, entries_max)
  if log == '' then return pack('>I6', now) .. name end
  if name ~= '' then log = without(log, width, name) end
  log = inside(log, width, window, now)
  if #log >= width * entries_max then log = sub(log, #log - width * (entries_max - 1) + 1) end
  local newest = #log > 0 and read('>I6', log, #log - width + 1) or 0
  return log .. pack('>I6', max(now, newest)) .. name
end

-- MGET shows no value where a key has another type, so a log without a value must not exist: nothing is charged before.
local function expect_no_other_type(c, keys, first, stored)
  if #c.shared == 0 then return end
  local missing = {}
  for n, limit in ipairs(c.shared) do
    local at = first + n - 1
    if limit.log == PACKED and not stored[at] then missing[#missing + 1] = keys[at] end
  end
  if #missing > 0 and call('EXISTS', unpack(missing)) > 0 then
    for _, key in ipairs(missing) do call('GET', key) end
  end
end

-- The time until every limit allows one more send. Wrong attempts limit sends, too: a code that could not be checked is not worth a
-- message. `stored` are the packed shared logs, the key of the n-th of which is `keys[first + n - 1]`.
local function limited_for(c, s, keys, first, stored, now)
  local left = 0
  expect_no_other_type(c, keys, first, stored)
  for _, limit in ipairs(c.limits) do
    if limit.log == SENDS then
      left = max(left, wait(s.sends, REQUEST_ENTRY, limit.count, limit.window, now))
    elseif limit.log == WRONG then
      left = max(left, wait(s.wrong, CHECK_ENTRY, limit.count, limit.window, now))
    else
      left = max(left, wait(s.refunds, REQUEST_ENTRY, limit.count, limit.window, now))
    end
  end
  for n, limit in ipairs(c.shared) do
    local key = keys[first + n - 1]
    if limit.log == PACKED then
      local log = read_shared(key, stored[first + n - 1])
      if log then left = max(left, wait(log, 6, limit.count, limit.window, now)) end
    else
      local blocking = call('LINDEX', key, -limit.count)
      if blocking then left = max(left, number(blocking) + limit.window - now) end
    end
  end
  return left
end

local function charge_shared(c, keys, first, stored, now)
  for n, limit in ipairs(c.shared) do
    local key = keys[first + n - 1]
    if limit.log == PACKED then
      local log = stored[first + n - 1]
      log = log and append(log, 6, '', limit.window, now, limit.count) or pack('>I6', now)
      call('SET', key, log, 'PX', decimal(limit.window))
    else
      if call('RPUSH', key, decimal(now)) > limit.count then call('LTRIM', key, -limit.count, -1) end
      call('PEXPIRE', key, decimal(limit.window))
    end
  end
end

-- The shared logs from which charges are refunded. Fails before any is refunded: of a list only the type is checked.
local function read_charged(c, keys, first)
  local stored = {}
  for n, limit in ipairs(c.shared) do
    local at = first + n - 1
    if limit.log == PACKED then
      stored[at] = read_shared(keys[at], call('GET', keys[at]))
    else
      call('LLEN', keys[at])
    end
  end
  return stored
end

-- Takes the charge of a request out of the shared logs. All that were charged have the time of its admission.
local function refund_shared(c, keys, first, stored, admitted_at)
  for n, limit in ipairs(c.shared) do
    local key = keys[first + n - 1]
    if limit.log == PACKED then
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

-- The time left of a recipient's cooldown. It lasts for its duration, and longer while the request that started it may
-- still be sent. So, unless the cooldown is off, messages of two requests to one recipient are not in doubt together before
-- the first one's deadline: a lookup could not tell them apart.
local function cooldown_left(s, prefix, recipient, now)
  if s.cooldown_until > now then return s.cooldown_until - now end
  if s.cooldown_deadline <= now or s.cooldown_request == '' then return 0 end
  local is_read, left = pcall(function()
    local key = prefix .. 'q' .. s.cooldown_request
    local line = find_record(key, call('GET', key), recipient)
    if not line then return 0 end
    local state, _, kept_until, _, rest = read_head(line)
    if kept_until <= now or state == COMPLETED then return 0 end
    -- At least 1 s, so that a caller does not retry at once.
    return max(read('>I6', line, rest) - now, 1000)
  end)
  -- The record of another request cannot be read: that request may still be sent.
  return is_read and left or 1000
end
