-- Readers: they change nothing.

-- Usage: a subject's use of its limits.
-- KEYS     recipient, request (a placeholder where unused), a placeholder, then the subject logs
-- ARGV     settings; B a request is given, I6 window of the recipient's first limit
-- Answers  I4 sends in the window, I4 sends in a day, I4 wrong attempts in an hour, I6 time until no limit applies, I6 cooldown left,
--          B has a record
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
    local record = find_record(keys[2], call('GET', keys[2]), recipient)
    if record and select(3, read_common(record)) > now then
      local state, _, _, _, rest_at = read_common(record)
      if state == COMPLETED then read(COMPLETION, record, rest_at) else read_progress(record, recipient) end
      has_record = 1
    end
  end
  return pack('>I4I4I4I6I6B', count_inside(s.sends, REQUEST_ENTRY, window, now), count_inside(s.sends, REQUEST_ENTRY, DAY, now),
    count_inside(s.wrong, CHECK_ENTRY, HOUR, now), limited_for(c, s, keys, 4, stored, now),
    cooldown_left(s, prefix_of(keys[1]), recipient, now), has_record)
end

-- Request record: the record of a request, and the value of its recipient.
-- KEYS     request; the other keys follow from its record
-- ARGV     settings; recipient, or empty: that of the record at the plain key
-- Answers  I6 now, I4 length of the record, record, value of the recipient; empty if there is no record
local function request_record(keys, args)
  local c = settings_of(args[1])
  local now, recipient = clock(c.test_time), args[2]
  local record = call('GET', keys[1])
  if not record then return '' end
  if recipient == '' then recipient = sub(record, BODY_AT, BODY_AT + 15) end
  record = find_record(keys[1], record, recipient)
  if not record then return '' end
  local state, _, kept_until = read_common(record)
  if kept_until <= now then return '' end
  local value = call('GET', sub(keys[1], 1, -1 - #'q' - 17) .. 's' .. recipient)
  if value then check_header(value) end
  return pack('>I6I4c0', now, #record, record) .. (value or '')
end

-- Recent requests: the newest requests of a recipient within a day.
-- KEYS     recipient
-- ARGV     settings
-- Answers  of each: I6 time, c17 request, Bc0 text of its id (empty for a UUID)
local function recent_requests(keys, args)
  local c = settings_of(args[1])
  local now, prefix = clock(c.test_time), prefix_of(keys[1])
  local s = read_recipient(keys[1], call('GET', keys[1]))
  local recent = {}
  for _, log in ipairs({s.sends, s.unsent}) do
    log = inside_window(log, REQUEST_ENTRY, DAY, now)
    for at = max(1, #log - REQUEST_ENTRY * c.recent_max + 1), #log, REQUEST_ENTRY do
      local time, request = read('>I6c17', log, at)
      local id_text = find_id_text(prefix, request)
      if id_text then recent[#recent + 1] = pack('>I6c17Bc0', time, request, #id_text, id_text) end
    end
  end
  return table.concat(recent)
end
