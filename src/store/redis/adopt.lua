-- Moves the data of the layout before this one that a step is about to need. It runs before the step while such data may
-- exist. A moved key is deleted, so nothing is moved twice.

-- The events of an old log: `member_bytes` makes the bytes of a member. A damaged log stays, and fails the step.
local function log_before(key, member_bytes)
  local events, words = {}, call('ZRANGE', key, 0, -1, 'WITHSCORES')
  for i = 1, #words, 2 do events[#events + 1] = pack('>I6', whole(words[i + 1])) .. member_bytes(words[i]) end
  return table.concat(events)
end

local function check_before(id)
  if #id ~= 16 then error('a check cannot be read') end
  return bytes_of(id)
end

local function sid_before(sid) return (not sid or sid == '-') and '' or sid end

local function challenge_before(key)
  local fields, words = {}, call('HGETALL', key)
  for i = 1, #words, 2 do fields[words[i]] = words[i + 1] end
  local used_by = fields.used and check_before(fields.used) or ''
  local body = {pack(BODY, whole(fields.expires), whole(fields.wrong), #used_by, used_by),
    facts_before(fields.id, fields.kid, fields.digest, fields.callers)}
  local sid, unfinished = sid_before(fields.name), {}
  for name, its_sid in pairs(fields) do
    local check = string.match(name, '^open:(%x+)$')
    if check then
      its_sid = sid_before(its_sid)
      unfinished[#unfinished + 1] = pack('>c8Bc0', check_before(check), #its_sid, its_sid)
    end
  end
  if sid ~= '' or #unfinished > 0 then body[3] = pack('>Bc0', #sid, sid) .. table.concat(unfinished) end
  return table.concat(body)
end

-- The purpose of a record in this layout.
local function purpose_of(line, recipient)
  local state, _, _, _, rest = read_head(line)
  if state ~= COMPLETED then return read_progress(line, recipient).purpose end
  return string.match(sub(line, rest), '"purpose":"([^"]*)"')
end

local function adopt_possible_checks(prefix, old, recipient, now)
  local key = prefix .. 'v' .. recipient
  local words = call('ZRANGE', old .. 'asked', 0, -1, 'WITHSCORES')
  for i = 1, #words, 2 do
    local sid, check = string.match(words[i], '^(%S+) (%S+)$')
    call('ZADD', key, words[i + 1], check_before(check) .. sid_before(sid))
  end
  if #words > 0 then call('PEXPIRE', key, decimal(DAY)) end
  call('DEL', old .. 'asked')
end

-- A log, of which this layout keeps no more than the largest limit counts.
local function newest(log, width) return sub(log, -1000 * width) end

-- Moves a recipient's logs and cooldown into `s`. Answers for how long the value is kept at least.
local function adopt_logs(c, s, prefix, old, recipient, now)
  local function request_bytes(text)
    local request = request_of(text)
    move_record(c, prefix, recipient, request, text, now)
    keep_text(prefix, request, text)
    return request
  end
  local window = max(c.window, call('PTTL', old .. 'sends'))
  s.sends = newest(log_before(old .. 'sends', request_bytes) .. s.sends, REQUEST_ENTRY)
  s.unsent = newest(log_before(old .. 'recent', request_bytes) .. s.unsent, REQUEST_ENTRY)
  s.refunds = newest(log_before(old .. 'refunds', request_of) .. s.refunds, REQUEST_ENTRY)
  s.wrong = newest(log_before(old .. 'wrong', check_before) .. s.wrong, CHECK_ENTRY)
  local cooldown = call('GET', old .. 'cooldown')
  if cooldown and s.cooldown_request == '' then
    local till, text = string.match(cooldown, '^(%d+) (%S+)$')
    s.cooldown_until, s.cooldown_request = whole(till), request_bytes(text)
    -- The key was kept until that request's deadline, or longer.
    s.cooldown_deadline = now + max(0, call('PTTL', old .. 'cooldown'))
  end
  return window
end

local function adopt_recipient(c, prefix, recipient, purposes, now)
  local old = prefix .. hex_of(recipient) .. ':'
  local names = {old .. 'sends', old .. 'recent', old .. 'refunds', old .. 'wrong', old .. 'cooldown'}
  local has_logs = call('EXISTS', unpack(names)) > 0
  if call('EXISTS', old .. 'asked') == 1 then adopt_possible_checks(prefix, old, recipient, now) end
  local challenges = {}
  for _, purpose in ipairs(purposes) do
    if call('EXISTS', old .. 'challenge:' .. purpose) == 1 then challenges[#challenges + 1] = purpose end
  end
  if not has_logs and #challenges == 0 then return end
  local key = prefix .. 's' .. recipient
  local s, window = read_recipient(key, call('GET', key)), c.window
  if has_logs then window = adopt_logs(c, s, prefix, old, recipient, now) end
  for _, purpose in ipairs(challenges) do
    names[#names + 1] = old .. 'challenge:' .. purpose
    if not find_challenge(s, purpose) then
      s.challenges = with_challenge(s, purpose, challenge_before(old .. 'challenge:' .. purpose), c.challenge_kept_after, now)
    end
  end
  write_recipient(key, s, window, now)
  call('DEL', unpack(names))
end

local function adopt_claim(prefix, recipient, message_id, now)
  local old = prefix .. hex_of(recipient) .. ':sid:' .. message_id
  local claim = call('GET', old)
  if not claim then return end
  local till, text = string.match(claim, '^(%d+) (%S+)$')
  if whole(till) > now then
    call('SET', claim_key(prefix, recipient, message_id), pack('>I6c17', whole(till), request_of(text)), 'NX', 'PX', decimal(till - now))
  end
  call('DEL', old)
end

local SHARED_LOGS = {u = 'user:', U = 'user:', i = 'ip:', I = 'ip:', w = 'net:', W = 'net:', a = 'spend:h', A = 'spend:h'}

-- Moves the newest events of a log that recipients share, as many as its limit counts.
local function adopt_shared(key, old, limit)
  local words = call('ZRANGE', old, -limit.count, -1, 'WITHSCORES')
  if #words == 0 then return end
  if limit.log == PACKED then
    local events = {}
    for i = 2, #words, 2 do events[#events + 1] = pack('>I6', whole(words[i])) end
    call('SET', key, table.concat(events) .. (call('GET', key) or ''), 'PX', decimal(limit.window))
  else
    for i = #words, 2, -2 do call('LPUSH', key, decimal(whole(words[i]))) end
    call('PEXPIRE', key, decimal(limit.window))
  end
  call('DEL', old)
end

local function adopt_idempotency_key(prefix, key, now)
  local old = prefix .. 'key:' .. hex_of(sub(key, -16))
  local value = call('GET', old)
  if not value then return end
  local till, request = string.match(value, '^(%d+) (%x+)$')
  if whole(till) > now then
    call('SET', key, pack('>I6c16', whole(till), bytes_of(request)), 'NX', 'PX', decimal(till - now))
  end
  call('DEL', old)
end

-- Adoption: moves what the step with these keys needs.
-- KEYS     those of the step
-- ARGV     the step's settings; until when such data may exist; text of the request id or empty; purpose or empty; then message
--          ids that may be claimed
-- Answers  a: adopted | n: the data is not open | d KEY: cannot be read, and all requests need it
local function adopt(keys, args)
  local c = settings_of(args[1])
  local text, purpose = args[3], args[4]
  local now = clock(c.test_time)
  if now >= tonumber(args[2]) then return 'a' end
  local prefix = sub(keys[1], 1, select(2, find(keys[1], '}:', 1, true)))
  if call('GET', prefix .. 'format') ~= decimal(VERSION) .. ' ' .. args[2] then return 'n' end
  local recipient, request, shared = nil, nil, 0
  for i, key in ipairs(keys) do
    local kind = sub(key, #prefix + 1, #prefix + 1)
    if kind == 's' then recipient = sub(key, -16) end
    if kind == 'q' then request = sub(key, -17) end
    if kind == 'k' then adopt_idempotency_key(prefix, key, now) end
    if SHARED_LOGS[kind] then
      shared = shared + 1
      local digest = sub(key, #prefix + 2)
      local limit, old = c.shared[shared], prefix .. SHARED_LOGS[kind] .. hex_of(digest)
      local is_read, damage = pcall(adopt_shared, key, old, limit)
      if not is_read and digest == '' then return 'd ' .. SHARED_LOGS[kind] end
      if not is_read then error(damage) end
    end
  end
  if request and not recipient then
    local hex = call('GET', prefix .. 'id:' .. text)
    recipient = hex and bytes_of(hex)
  end
  if not recipient then return 'a' end
  local purposes = {purpose ~= '' and purpose or nil}
  if request and text ~= '' then
    move_record(c, prefix, recipient, request, text, now)
    local key = prefix .. 'q' .. request
    local line = find_record(key, call('GET', key), recipient)
    local its_purpose = line and purpose_of(line, recipient)
    if its_purpose and its_purpose ~= purpose then purposes[#purposes + 1] = its_purpose end
  end
  adopt_recipient(c, prefix, recipient, purposes, now)
  for i = 5, #args do adopt_claim(prefix, recipient, args[i], now) end
  return 'a'
end
