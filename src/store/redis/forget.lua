-- Forgetting a recipient: its requests lose their histories, its pending codes go, and its suppression is noted under a digest.

reports.forget = {}

-- The requests that the value of a recipient names, and those given, each once.
function reports.forget.requests(s, given)
  local requests, seen = {}, {}
  local function add(request)
    if request ~= '' and not seen[request] then seen[request], requests[#requests + 1] = true, request end
  end
  for _, log in ipairs({s.sends, s.refunds, s.unsent}) do
    for at = 7, #log, REQUEST_ENTRY_BYTES do add(sub(log, at, at + 16)) end
  end
  add(s.cooldown_request)
  for request in pairs(given) do add(request) end
  return requests
end

-- The requests of a recipient's records that one SCAN call finds, and the cursor of the next call.
function reports.forget.scan(prefix, recipient, cursor)
  local pattern = string.gsub(prefix, '[]*?[^\\]', '\\%0') .. 'q*'
  local next_cursor, found = unpack(server_call('SCAN', cursor, 'MATCH', pattern, 'COUNT', 1000))
  local requests = {}
  for _, key in ipairs(found) do
    local record = redis.pcall('GET', key)
    if type(record) == 'string' and is_of(record, recipient) then requests[#requests + 1] = sub(key, #prefix + 2, #prefix + 18) end
  end
  return requests, next_cursor
end

-- Completed records of a recipient: those that its value names, or those that one SCAN call finds. Few are found by the second way alone:
-- the logs in the value are bounded.
-- KEYS     recipient
-- ARGV     settings; cursor, or empty: by the value
-- Answers  Bc0 cursor of the next call, `0` after the last; then of each: c17 request, I6 kept until, I4 length of the completion, completion
function reports.forget.records(keys, args)
  local now, key = clock(settings_of(args[1]).test_time), keys[1]
  local recipient, prefix, requests, next_cursor = sub(key, -16), prefix_of(key), nil, '0'
  if args[2] == '' then
    requests = reports.forget.requests(read_recipient(key, call('GET', key)), {})
  else
    requests, next_cursor = reports.forget.scan(prefix, recipient, args[2])
  end
  local answer = {pack('>Bc0', #next_cursor, next_cursor)}
  for _, request in ipairs(requests) do
    local name = prefix .. 'q' .. request
    local record = find_record(name, call('GET', name), recipient)
    local state, _, kept_until, _, rest_at
    if record then state, _, kept_until, _, rest_at = read_common(record) end
    if state == COMPLETED and kept_until > now then
      answer[#answer + 1] = pack('>c17I6I4', request, kept_until, #record - rest_at + 1) .. sub(record, rest_at)
    end
  end
  return table.concat(answer)
end

-- A note with a mark in place of the masked recipient, also in the suppression that an opt-out keeps.
function reports.forget.marked_note(note, mark)
  local own = opts.own_note(note)
  local kept = string.gsub(sub(note, #own + 1), '^(\n%d+ %d+ %d+ )%S*', '%1' .. mark)
  return sub(own, 1, 6) .. string.gsub(sub(own, 7), '^%S*', mark, 1) .. kept
end

function reports.forget.mark_note(prefix, recipient)
  local key = prefix .. 'n' .. recipient
  local note = call('GET', key)
  -- Of layout 1, too: the store may be opened again, which copies them.
  local old = prefix .. hex_of(recipient)
  call('DEL', old .. ':suppressed', old .. ':suppression')
  if not note or #note < 6 then return 0 end
  local marked = reports.forget.marked_note(note, '#' .. sub(hex_of(recipient), 1, 8))
  if marked == note then return 0 end
  call('SET', key, marked, 'KEEPTTL')
  return 1
end

-- Removes the codes of a recipient. Its limits stay. Answers the number of those that were still kept.
function reports.forget.drop_codes(c, key, s, now)
  if s.challenges == '' then return 0 end
  local count, at = 0, 1
  while at <= #s.challenges do
    local _, packed, after = read('>Bc0Hc0', s.challenges, at)
    if read('>I6', packed) + c.challenge_kept_after > now then count = count + 1 end
    at = after
  end
  s.challenges = ''
  -- A value needs a time to live, even if nothing in it counts any more.
  write_recipient(key, s, 1000, now)
  return min(count, 255)
end

-- Forgets a recipient. Charges go from its records, too: they name the user.
-- KEYS     recipient
-- ARGV     settings; history of a forgotten request in progress; then of each completed record, in one argument: c17 request, I6 kept until,
--          I4 length of the outcome, outcome
-- Answers  b LEFT: a request is in progress for I6 at most, and nothing has changed | a: again, a completed record was not given |
--          f: forgotten: B codes, B note changed, I6 limits until (0: none), I4 provider code of the suppression, I6 its end, I6+1 last
--          opt-in or opt-out until (0: none)
function reports.forget.forget(keys, args)
  local c, key = settings_of(args[1]), keys[1]
  local now, recipient, prefix = clock(c.test_time), sub(key, -16), prefix_of(key)
  local s, given, at = read_recipient(key, call('GET', key)), {}, 1
  while at <= #args[3] do
    local request, kept_until, length
    request, kept_until, length, at = read('>c17I6I4', args[3], at)
    given[request] = {kept_until = kept_until, outcome = sub(args[3], at, at + length - 1)}
    at = at + length
  end
  local reduced, left = {}, 0
  for _, request in ipairs(reports.forget.requests(s, given)) do
    local name = prefix .. 'q' .. request
    local record, place = find_record(name, call('GET', name), recipient)
    local state, token, kept_until, receipt, rest_at
    if record then state, token, kept_until, receipt, rest_at = read_common(record) end
    if not record or kept_until <= now then
      -- Nothing can read it any more.
    elseif state ~= COMPLETED then
      local r = read_progress(record, recipient)
      left, r.history = max(left, r.deadline - now, r.busy_until - now), args[2]
      reduced[#reduced + 1] = {place, pack_progress(r)}
    else
      local outcome = given[request]
      if not outcome or outcome.kept_until ~= kept_until then return 'a' end
      local shows_claim, message_id, unnamed = read(COMPLETED_FIELDS, record, rest_at)
      reduced[#reduced + 1] =
        {place, pack_completed(recipient, token, kept_until, receipt, shows_claim, message_id, unnamed, outcome.outcome)}
    end
  end
  if left > 0 then return pack('>c1I6', 'b', left) end
  for _, record in ipairs(reduced) do call('SET', record[1], record[2], 'KEEPTTL') end
  local note = reports.forget.mark_note(prefix, recipient)
  local codes = reports.forget.drop_codes(c, key, s, now)
  local limits_until = s.kept_until > now and s.kept_until or 0
  local _, opted_at = opts.last(prefix, recipient)
  local suppressed_until = s.suppressed_until > now and s.suppressed_until or 0
  return pack('>c1BBI6I4I6I6', 'f', codes, note, limits_until, s.suppression_code, suppressed_until,
    opted_at and opted_at + opts.KEPT + 1 or 0)
end
