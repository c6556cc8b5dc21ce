-- Readers: they change nothing.

-- Usage: a subject's use of its limits.
-- KEYS     recipient, request (a placeholder where unused), a placeholder, then the subject logs
-- ARGV     settings; B a request is given, I6 window of the recipient's first limit
-- Answers  I4 sends in the window, I4 sends in a day, I4 wrong attempts in an hour, I6 time until no limit applies, B number of the
--          limit of that time (0: none), I6 cooldown left, B has a record
local function usage(keys, args)
  local c = settings_of(args[1])
  local has_request, window = read('>BI6', args[2])
  local now = clock(c.test_time)
  local recipient = sub(keys[1], -16)
  local stored = call('MGET', unpack(keys))
  -- GET, unlike MGET, fails at a key of another type.
  local s = read_recipient(keys[1], call('GET', keys[1]))
  local has_record = 0
  if has_request == 1 then
    local record = kept_record(keys[2], call('GET', keys[2]), recipient, now)
    if record then
      local state, _, _, _, rest_at = read_common(record)
      if state == COMPLETED then read(COMPLETED_FIELDS, record, rest_at) else read_progress(record, recipient) end
      has_record = 1
    end
  end
  local left, number = limited_for(c, s, keys, 4, stored, now)
  return pack('>I4I4I4I6BI6B', count_inside(s.sends, REQUEST_ENTRY_BYTES, window, now), count_inside(s.sends, REQUEST_ENTRY_BYTES, DAY, now),
    count_inside(s.wrong, CHECK_ENTRY_BYTES, HOUR, now), left, number,
    cooldown_left(s, prefix_of(keys[1]), recipient, now), has_record)
end

-- Request record: the record of a request, and the value of its recipient.
-- KEYS     request, and the recipient if it is known; without it, its key follows from the record
-- ARGV     settings; recipient, or empty: that of the record at the plain key
-- Answers  I6 now, I4 length of the record, record, value of the recipient; empty if there is no record
local function request_record(keys, args)
  local c = settings_of(args[1])
  local now, recipient = clock(c.test_time), args[2]
  local record = call('GET', keys[1])
  if not record then return '' end
  if recipient == '' then recipient = sub(record, BODY_AT, BODY_AT + 15) end
  record = kept_record(keys[1], record, recipient, now)
  if not record then return '' end
  local value = call('GET', sub(keys[1], 1, -1 - #'q' - 17) .. 's' .. recipient)
  if value then check_header(value) end
  return pack('>I6I4c0', now, #record, record) .. (value or '')
end

-- The newest entries of a recipient's sends, and of its unsent requests, within a day.
local function newest_entries(c, s, now)
  local newest = {}
  for _, log in ipairs({s.sends, s.unsent}) do
    log = inside_window(log, REQUEST_ENTRY_BYTES, DAY, now)
    for at = max(1, #log - REQUEST_ENTRY_BYTES * c.recent_max + 1), #log, REQUEST_ENTRY_BYTES do
      newest[#newest + 1] = sub(log, at, at + REQUEST_ENTRY_BYTES - 1)
    end
  end
  return newest
end

-- An entry, and Bc0 text of the request's id (empty for a UUID); nothing if the text is not kept any more.
local function summary(prefix, entry)
  local id_text = find_id_text(prefix, sub(entry, 7))
  if id_text then return entry .. pack('>Bc0', #id_text, id_text) end
end

-- Recent requests: the newest requests of a recipient within a day.
-- KEYS     recipient
-- ARGV     settings
-- Answers  of each a SUMMARY: I6 time, c17 request, Bc0 text of its id
local function recent_requests(keys, args)
  local c = settings_of(args[1])
  local now, prefix = clock(c.test_time), prefix_of(keys[1])
  local s = read_recipient(keys[1], call('GET', keys[1]))
  local recent = {}
  for _, entry in ipairs(newest_entries(c, s, now)) do recent[#recent + 1] = summary(prefix, entry) end
  return table.concat(recent)
end
