-- Data of the layout before this one. {P}:format is the number of this layout, and until when (ms) records of that one may
-- exist (0: there were none). Until then a step first moves what it needs. Old keys of a recipient begin with its digest in
-- hexadecimal digits, {P}:<hex>:…; old values are words and JSON.
local BATCH = 500
-- The longest window of a limit is a week.
local OLD_KEPT = 7 * DAY + HOUR
local STATES = {sending = SENDING, waiting = WAITING, doubt = DOUBT}
local STATUSES = {accepted = 0, scheduled = 1, queued = 2, sending = 3, sent = 4, delivered = 5, undelivered = 6, failed = 7,
  canceled = 8, read = 9}

local function bytes_of(hex)
  if #hex % 2 ~= 0 or find(hex, '%X') then error('digits cannot be read') end
  return (string.gsub(hex, '%x%x', function(digits) return string.char(tonumber(digits, 16)) end))
end

local function hex_of(bytes)
  return (string.gsub(bytes, '.', function(byte) return format('%02x', string.byte(byte)) end))
end

local function whole(text)
  local number = tonumber(text)
  if not number or number < 0 or number >= NO_END then error('a number cannot be read') end
  return number
end

-- The first 16 bytes of a SHA-256 (FIPS 180-4), which names a request whose id is no UUID. Its constants are fractions of the
-- roots of the first primes.
local first_state, round_constants
local function prepare_sha256()
  first_state, round_constants = {}, {}
  local function fraction(root) return bit.tobit(math.floor(root % 1 * 4294967296)) end
  local candidate = 1
  while #round_constants < 64 do
    candidate = candidate + 1
    local divisor = 2
    while candidate % divisor ~= 0 do divisor = divisor + 1 end
    if divisor == candidate then
      if #first_state < 8 then first_state[#first_state + 1] = fraction(candidate ^ 0.5) end
      round_constants[#round_constants + 1] = fraction(candidate ^ (1 / 3))
    end
  end
end

local function sha256_start(text)
  if not first_state then prepare_sha256() end
  local band, bxor, bnot, ror, rshift, tobit = bit.band, bit.bxor, bit.bnot, bit.ror, bit.rshift, bit.tobit
  local padded = text .. '\128' .. string.rep('\0', (55 - #text) % 64) .. pack('>I4I4', 0, #text * 8)
  local state = {unpack(first_state)}
  for block = 1, #padded, 64 do
    local w = {read('>' .. string.rep('I4', 16), padded, block)}
    for i = 17, 64 do
      local s0 = bxor(ror(w[i - 15], 7), ror(w[i - 15], 18), rshift(w[i - 15], 3))
      local s1 = bxor(ror(w[i - 2], 17), ror(w[i - 2], 19), rshift(w[i - 2], 10))
      w[i] = tobit(w[i - 16] + s0 + w[i - 7] + s1)
    end
    local a, b, c, d, e, f, g, h = unpack(state)
    for i = 1, 64 do
      local t1 = h + bxor(ror(e, 6), ror(e, 11), ror(e, 25)) + bxor(band(e, f), band(bnot(e), g)) + round_constants[i] + w[i]
      local t2 = bxor(ror(a, 2), ror(a, 13), ror(a, 22)) + bxor(band(a, b), band(a, c), band(b, c))
      a, b, c, d, e, f, g, h = tobit(t1 + t2), a, b, c, tobit(d + t1), e, f, g
    end
    for i, word in ipairs({a, b, c, d, e, f, g, h}) do state[i] = tobit(state[i] + word) end
  end
  return pack('>I4I4I4I4', state[1] % 4294967296, state[2] % 4294967296, state[3] % 4294967296, state[4] % 4294967296)
end

-- The 17 bytes of a request id, as `keys.rs` makes them.
local function request_of(text)
  local a, b, c, d, e = string.match(text, '^(%x+)%-(%x+)%-(%x+)%-(%x+)%-(%x+)$')
  if a and #a == 8 and #b == 4 and #c == 4 and #d == 4 and #e == 12 and not find(text, '%u') then
    return 'u' .. bytes_of(a .. b .. c .. d .. e)
  end
  return 'h' .. sha256_start(text)
end

local function keep_text(prefix, request, text)
  if sub(request, 1, 1) == 'h' then call('SET', prefix .. 't' .. request, text, 'PX', decimal(3 * DAY)) end
end

local function receipt_before(words)
  if words == '-' then return '' end
  local id, rank, status, published, code, at, strength = string.match(words, '^([^,]+),(%d+),([^,]+),(%d),([^,]+),(%d+),?(%d?)$')
  return pack(RECEIPT, #id, id, whole(rank), STATUSES[status], whole(published), code == '-' and 0 or whole(code), whole(at),
    strength == '' and 0 or whole(strength))
end

local function facts_before(challenge, kid, digest, callers)
  return pack(FACTS, whole(callers), bytes_of(challenge), bytes_of(digest), #kid, kid)
end

-- The messages without a claim, the last field of an old outcome, and the outcome without it.
local function unnamed_before(outcome)
  local rest, words = string.match(outcome, '^(.*),"unnamed":"([^"]*)"}$')
  if not words then return '', outcome end
  local count, from, till, challenge, kid, digest, callers, purpose = string.match(words,
    '^(%d+) (%d+) (%d+) (%S+) (%S+) (%S+) (%S+) (%S+)$')
  local facts = challenge == '-' and '' or facts_before(challenge, kid, digest, callers)
  if purpose == '-' then purpose = '' end
  return pack('>HI6I6Bc0Bc0', whole(count), whole(from), whole(till), #purpose, purpose, #facts, facts), rest .. '}'
end

-- An old record in this layout, and its end.
local function record_before(line, recipient)
  local r = {recipient = recipient}
  local state, owner, kept_until, receipt, rest = string.match(line, '^(%l+) (%S+) (%d+) (%S+) (.+)$')
  r.owner = owner == '-' and NO_OWNER or bytes_of(owner)
  r.kept_until, r.receipt = whole(kept_until), receipt_before(receipt)
  if state == 'ended' then
    local unnamed, outcome = unnamed_before(rest)
    -- Quotes inside JSON strings are escaped, so these patterns match only fields.
    local message_id = string.match(outcome, '"provider_message_id":"([^"\\%s]*)"') or ''
    -- Its claim has a key.
    return completed(recipient, r.owner, r.kept_until, r.receipt, 0, message_id, unnamed, outcome), r.kept_until
  end
  local words = {string.match(rest, '^(%d+) (%d+) (%d+) (%d+) (%d+) (%S+) (%S+) (%S+) (%d) (%d+) (%d+) (%d+) (%S+) (.+)$')}
  r.state = STATES[state]
  r.lease_until, r.attempt, r.started_at, r.attempts_in_doubt = whole(words[1]), whole(words[2]), whole(words[3]), whole(words[4])
  r.unfinished_leases, r.facts = whole(words[5]), facts_before(words[6], words[7], words[8], words[9])
  r.admitted_at, r.expires, r.deadline = whole(words[10]), whole(words[11]), whole(words[12])
  r.purpose, r.history = words[13], words[14]
  return progress_line(r), r.kept_until
end

-- Moves the record of a request. One that cannot be read stays so: it is cut short.
local function move_record(c, prefix, recipient, request, text, now)
  local hex = hex_of(recipient)
  local old_key = prefix .. hex .. ':req:' .. text
  local is_string, line = pcall(call, 'GET', old_key)
  if is_string and not line then return end
  -- Of two recipients with one request id, that of the index comes first, and gets the key of the request alone.
  local first = call('GET', prefix .. 'id:' .. text)
  if first and first ~= hex then
    call('DEL', prefix .. 'id:' .. text)
    move_record(c, prefix, bytes_of(first), request, text, now)
  end
  local is_read, moved, kept_until = pcall(record_before, line, recipient)
  if not is_read then moved, kept_until = pack(SEAL, VERSION, 0) .. recipient, now + DAY end
  local key = prefix .. 'q' .. request
  local stood = call('GET', key)
  if kept_until > now and not find_record(key, stood, recipient) then
    local place, kept_px = place_record(c, key, stood, recipient, c.outcome_px, now)
    call('SET', place, moved, 'PX', kept_px)
    keep_text(prefix, request, text)
  end
  call('DEL', old_key)
end

local function move_receipts(c, prefix, members, now)
  for _, member in ipairs(members) do
    -- A message is not polled for if its member cannot be read.
    pcall(function()
      local hex, sent_at, text = string.match(member, '^%S+ (%x+) (%d+) (%S+)$')
      local recipient, request = bytes_of(hex), request_of(text)
      move_record(c, prefix, recipient, request, text, now)
      expect_receipt(prefix, recipient, request, whole(sent_at), whole(call('ZSCORE', prefix .. 'receipts', member)), now)
    end)
    call('ZREM', prefix .. 'receipts', member)
  end
end

local function suppression_before(value)
  local code, till = string.match(value, '^(%d+) (%S+)$')
  return whole(code), till == '-' and NO_END or whole(till)
end

-- Copies a listed suppression. The old one stays for an earlier version. One that cannot be read has no end.
local function copy_suppression(c, prefix, hex, now)
  local old = prefix .. hex
  local is_string, value = pcall(call, 'GET', old .. ':suppressed')
  if is_string and not value then return end
  local is_read, code, till = pcall(suppression_before, value)
  if not is_read then code, till = 0, NO_END end
  if till <= now then return end
  local recipient = bytes_of(hex)
  local key = prefix .. 's' .. recipient
  local s = read_recipient(key, call('GET', key))
  local has_note, note = pcall(function()
    local since, masked_and_reason = string.match(call('GET', old .. ':suppression'), '^(%d+) (.*)$')
    return pack('>I6', whole(since)) .. masked_and_reason
  end)
  if not suppress_recipient(prefix, recipient, s, code, till == NO_END and NO_END or till - now, now, '') then return end
  write_recipient(key, s, c.window, now)
  if has_note then call('SET', prefix .. 'n' .. recipient, note, 'KEEPTTL') else call('DEL', prefix .. 'n' .. recipient) end
end

-- The suppressions of all countries that have one (ISO 3166: two letters).
local function move_countries(prefix, now)
  local names = {}
  for first = 65, 90 do
    for second = 65, 90 do names[#names + 1] = string.char(first, second) end
  end
  local keys = {}
  for i, name in ipairs(names) do keys[i] = prefix .. 'country:' .. name end
  for i, value in ipairs(call('MGET', unpack(keys))) do
    if value then
      local is_read, code, till = pcall(suppression_before, value)
      if is_read and till > now then suppress_country(prefix .. 'c' .. names[i], code, till == NO_END and NO_END or till - now, now) end
    end
  end
end

-- Open: makes sure that the data is of this layout, once for each process, and copies what all requests share.
-- KEYS     format
-- ARGV     settings; suppressions copied so far
-- Answers  o UNTIL LEFT: open; records of the layout before may exist until then (0: none), for this many ms | m COPIED: to be
--          repeated | f NUMBER: the data has another format | w: an old worker is running | d KEY: cannot be read
local function open(keys, args)
  local c, copied = settings_of(args[1]), tonumber(args[2])
  local now, prefix = clock(c.test_time), sub(keys[1], 1, -7)
  local function answer(till) return format('o %.0f %.0f', till, max(0, till - now)) end
  local is_string, recorded = pcall(call, 'GET', keys[1])
  if not is_string then return 'd format' end
  if recorded then
    local number, till = string.match(recorded, '^(%d+) (%d+)')
    number = number or string.match(recorded, '^%d+')
    if not number then return 'd format' end
    return number == decimal(VERSION) and till and answer(tonumber(till)) or 'f ' .. number
  end
  if has_old_worker(prefix) then return 'w' end
  for _, name in ipairs({'receipts', 'suppressions'}) do
    if not pcall(call, 'ZCARD', prefix .. name) then return 'd ' .. name end
  end
  local till = call('EXISTS', prefix .. 'server', prefix .. 'suppressions', prefix .. 'receipts') > 0 and now + OLD_KEPT or 0
  local receipts = call('ZRANGE', prefix .. 'receipts', 0, BATCH - 1)
  if #receipts > 0 then
    -- The last of them deletes the set: the next call must still know that there was data.
    if call('EXISTS', prefix .. 'server') == 0 then call('SET', prefix .. 'server', '- 0', 'PX', decimal(HOUR)) end
    move_receipts(c, prefix, receipts, now)
    return 'm ' .. decimal(copied)
  end
  local listed = call('ZRANGE', prefix .. 'suppressions', copied, copied + BATCH - 1)
  for _, hex in ipairs(listed) do
    if #hex == 32 and not find(hex, '%X') then copy_suppression(c, prefix, hex, now) end
  end
  if #listed > 0 then return 'm ' .. decimal(copied + #listed) end
  move_countries(prefix, now)
  call('SET', keys[1], decimal(VERSION) .. ' ' .. decimal(till))
  return answer(till)
end
