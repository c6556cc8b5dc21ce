-- Moves the data of layout 1 that a step is about to need. It runs before the step while such data may exist. A moved key is
-- deleted, so nothing is moved twice.

-- The events of an old log, packed: `member_bytes` makes the bytes of a member. A damaged log stays, and fails the step.
local function convert_log(key, member_bytes)
  local events, words = {}, call('ZRANGE', key, 0, -1, 'WITHSCORES')
  for i = 1, #words, 2 do events[#events + 1] = pack('>I6', whole(words[i + 1])) .. member_bytes(words[i]) end
  return table.concat(events)
end

local function convert_check(id)
  if #id ~= 16 then error('a check cannot be read') end
  return bytes_of(id)
end

local function convert_sid(sid) return (not sid or sid == '-') and '' or sid end

local function convert_challenge(key)
  local fields, words = {}, call('HGETALL', key)
  for i = 1, #words, 2 do fields[words[i]] = words[i + 1] end
  local used_by = fields.used and convert_check(fields.used) or ''
  local packed = {pack(CHALLENGE, whole(fields.expires), whole(fields.wrong), #used_by, used_by),
    convert_facts(fields.id, fields.kid, fields.digest, fields.callers)}
  local sid, unfinished = convert_sid(fields.name), {}
  for name, asked_sid in pairs(fields) do
    local check = string.match(name, '^open:(%x+)$')
    if check then
      asked_sid = convert_sid(asked_sid)
      unfinished[#unfinished + 1] = pack('>c8Bc0', convert_check(check), #asked_sid, asked_sid)
    end
  end
  if sid ~= '' or #unfinished > 0 then packed[3] = pack('>Bc0', #sid, sid) .. table.concat(unfinished) end
  return table.concat(packed)
end

-- The purpose of a record just moved. A moved outcome is still JSON.
local function purpose_of(record, recipient)
  local state, _, _, _, rest_at = read_common(record)
  if state ~= COMPLETED then return read_progress(record, recipient).purpose end
  return string.match(sub(record, rest_at), '"purpose":"([^"]*)"')
end

local function move_possible_checks(prefix, old, recipient, now)
  local key = prefix .. 'v' .. recipient
  local words = call('ZRANGE', old .. 'asked', 0, -1, 'WITHSCORES')
  for i = 1, #words, 2 do
    local sid, check = string.match(words[i], '^(%S+) (%S+)$')
    call('ZADD', key, words[i + 1], convert_check(check) .. convert_sid(sid))
  end
  if #words > 0 then call('PEXPIRE', key, decimal(DAY)) end
  call('DEL', old .. 'asked')
end

-- The newest entries of a log: no limit on a recipient's log counts more.
local function newest(log, width) return sub(log, -1000 * width) end

-- Moves a recipient's logs and cooldown into `s`. Answers for how long the value is kept at least.
local function move_logs(c, s, prefix, old, recipient, now)
  -- Answers the 17 bytes of the request.
  local function move_record_of(id_text)
    local request = request_of(id_text)
    move_record(c, prefix, recipient, request, id_text, now)
    keep_id_text(prefix, request, id_text)
    return request
  end
  local window = max(c.window, call('PTTL', old .. 'sends'))
  s.sends = newest(convert_log(old .. 'sends', move_record_of) .. s.sends, REQUEST_ENTRY_BYTES)
  s.unsent = newest(convert_log(old .. 'recent', move_record_of) .. s.unsent, REQUEST_ENTRY_BYTES)
  s.refunds = newest(convert_log(old .. 'refunds', request_of) .. s.refunds, REQUEST_ENTRY_BYTES)
  s.wrong = newest(convert_log(old .. 'wrong', convert_check) .. s.wrong, CHECK_ENTRY_BYTES)
  local cooldown = call('GET', old .. 'cooldown')
  if cooldown and s.cooldown_request == '' then
    local till, id_text = string.match(cooldown, '^(%d+) (%S+)$')
    s.cooldown_until, s.cooldown_request = whole(till), move_record_of(id_text)
    -- The key was kept until that request's deadline, or longer.
    s.cooldown_deadline = now + max(0, call('PTTL', old .. 'cooldown'))
  end
  return window
end

local function move_recipient(c, prefix, recipient, purposes, now)
  local key, old = prefix .. 's' .. recipient, prefix .. hex_of(recipient) .. ':'
  if call('EXISTS', key) == 0 then copy_suppression(c, prefix, hex_of(recipient), now) end
  local names = {old .. 'sends', old .. 'recent', old .. 'refunds', old .. 'wrong', old .. 'cooldown'}
  local has_logs = call('EXISTS', unpack(names)) > 0
  if call('EXISTS', old .. 'asked') == 1 then move_possible_checks(prefix, old, recipient, now) end
  local challenges = {}
  for _, purpose in ipairs(purposes) do
    if call('EXISTS', old .. 'challenge:' .. purpose) == 1 then challenges[#challenges + 1] = purpose end
  end
  if not has_logs and #challenges == 0 then return end
  local s, window = read_recipient(key, call('GET', key)), c.window
  if has_logs then window = move_logs(c, s, prefix, old, recipient, now) end
  for _, purpose in ipairs(challenges) do
    names[#names + 1] = old .. 'challenge:' .. purpose
    if not find_challenge(s, purpose) then
      s.challenges = with_challenge(s, purpose, convert_challenge(old .. 'challenge:' .. purpose), c.challenge_kept_after, now)
    end
  end
  write_recipient(key, s, window, now)
  call('DEL', unpack(names))
end

local function move_claim(prefix, recipient, message_id, now)
  local old = prefix .. hex_of(recipient) .. ':sid:' .. message_id
  local claim = call('GET', old)
  if not claim then return end
  local till, id_text = string.match(claim, '^(%d+) (%S+)$')
  if whole(till) > now then
    local value = pack('>I6c17', whole(till), request_of(id_text))
    call('SET', claim_key(prefix, recipient, message_id), value, 'NX', 'PX', decimal(till - now))
  end
  call('DEL', old)
end

local OLD_SUBJECT_LOGS = {u = 'user:', U = 'user:', i = 'ip:', I = 'ip:', w = 'net:', W = 'net:', a = 'spend:h', A = 'spend:h'}

-- Moves the newest events of a subject log, as many as its limit counts.
local function move_subject_log(key, old, limit)
  local words = call('ZRANGE', old, -limit.count, -1, 'WITHSCORES')
  if #words == 0 then return end
  if limit.kind == SUBJECT_PACKED then
    local events = {}
    for i = 2, #words, 2 do events[#events + 1] = pack('>I6', whole(words[i])) end
    call('SET', key, table.concat(events) .. (call('GET', key) or ''), 'PX', decimal(limit.window))
  else
    for i = #words, 2, -2 do call('LPUSH', key, decimal(whole(words[i]))) end
    call('PEXPIRE', key, decimal(limit.window))
  end
  call('DEL', old)
end

local function move_idempotency_key(prefix, key, now)
  local old = prefix .. 'key:' .. hex_of(sub(key, -16))
  local value = call('GET', old)
  if not value then return end
  local till, request = string.match(value, '^(%d+) (%x+)$')
  if whole(till) > now then
    call('SET', key, pack('>I6c16', whole(till), bytes_of(request)), 'NX', 'PX', decimal(till - now))
  end
  call('DEL', old)
end

-- Old data: moves what the step with these keys needs.
-- KEYS     those of the step
-- ARGV     the step's settings; until when such data may exist; text of the request id or empty; purpose or empty; then message
--          ids that may be claimed
-- Answers  a: all is moved | n: the data is not open | d KEY: cannot be read, and all requests need it
local function move_old_data(keys, args)
  local c = settings_of(args[1])
  local id_text, purpose = args[3], args[4]
  local now = clock(c.test_time)
  if now >= tonumber(args[2]) then return 'a' end
  local prefix = sub(keys[1], 1, select(2, find(keys[1], '}:', 1, true)))
  if call('GET', prefix .. 'format') ~= decimal(LAYOUT) .. ' ' .. args[2] then return 'n' end
  local recipient, request, subject_logs = nil, nil, 0
  for i, key in ipairs(keys) do
    local kind = sub(key, #prefix + 1, #prefix + 1)
    if kind == 's' then recipient = sub(key, -16) end
    if kind == 'q' then request = sub(key, -17) end
    if kind == 'k' then move_idempotency_key(prefix, key, now) end
    if OLD_SUBJECT_LOGS[kind] then
      subject_logs = subject_logs + 1
      local digest = sub(key, #prefix + 2)
      local limit, old = c.subject_limits[subject_logs], prefix .. OLD_SUBJECT_LOGS[kind] .. hex_of(digest)
      local is_read, damage = pcall(move_subject_log, key, old, limit)
      if not is_read and digest == '' then return 'd ' .. OLD_SUBJECT_LOGS[kind] end
      if not is_read then error(damage) end
    end
  end
  if request and not recipient then
    local hex = call('GET', prefix .. 'id:' .. id_text)
    recipient = hex and bytes_of(hex)
  end
  if not recipient then return 'a' end
  local purposes = {purpose ~= '' and purpose or nil}
  if request and id_text ~= '' then
    move_record(c, prefix, recipient, request, id_text, now)
    local key = prefix .. 'q' .. request
    local record = find_record(key, call('GET', key), recipient)
    local recorded_purpose = record and purpose_of(record, recipient)
    if recorded_purpose and recorded_purpose ~= purpose then purposes[#purposes + 1] = recorded_purpose end
  end
  move_recipient(c, prefix, recipient, purposes, now)
  for i = 5, #args do move_claim(prefix, recipient, args[i], now) end
  return 'a'
end
