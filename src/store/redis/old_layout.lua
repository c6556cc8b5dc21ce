-- Data of layout 1. {P}:format is the number of this layout, and until when (ms) data of layout 1 may exist (0: there was none).
-- Until then a step first moves what it needs. Old keys of a recipient begin with its digest in hexadecimal digits, {P}:<hex>:…;
-- old values are words and JSON. To convert is to make the bytes of this layout; to copy, to write them; to move, to delete the old
-- key as well.
-- At most so many are moved, or keys looked at, in one call: all others wait meanwhile.
local BATCH = 500
-- The longest window of a limit is a week.
local OLD_RECORDS_LIVE = 7 * DAY + HOUR
local STATES = {sending = SENDING, waiting = WAITING, doubt = DOUBT}
-- As `DeliveryStatus::index` numbers them.
local STATUSES = {accepted = 0, scheduled = 1, queued = 2, sending = 3, sent = 4, delivered = 5, undelivered = 6, failed = 7,
  canceled = 8, read = 9}

local function bytes_of(hex)
  if #hex % 2 ~= 0 or find(hex, '%X') then error('digits cannot be read') end
  return (string.gsub(hex, '%x%x', function(digits) return string.char(tonumber(digits, 16)) end))
end

local function whole(digits)
  local number = tonumber(digits)
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

local function sha256_first_16(bytes)
  if not first_state then prepare_sha256() end
  local band, bxor, bnot, ror, rshift, tobit = bit.band, bit.bxor, bit.bnot, bit.ror, bit.rshift, bit.tobit
  local padded = bytes .. '\128' .. string.rep('\0', (55 - #bytes) % 64) .. pack('>I4I4', 0, #bytes * 8)
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
local function request_of(id_text)
  local a, b, c, d, e = string.match(id_text, '^(%x+)%-(%x+)%-(%x+)%-(%x+)%-(%x+)$')
  if a and #a == 8 and #b == 4 and #c == 4 and #d == 4 and #e == 12 and not find(id_text, '%u') then
    return 'u' .. bytes_of(a .. b .. c .. d .. e)
  end
  return 'h' .. sha256_first_16(id_text)
end

local function keep_id_text(prefix, request, id_text)
  if sub(request, 1, 1) == 'h' then call('SET', prefix .. 't' .. request, id_text, 'PX', decimal(3 * DAY)) end
end

local function convert_receipt(words)
  if words == '-' then return '' end
  local id, rank, status, published, code, at, strength = string.match(words, '^([^,]+),(%d+),([^,]+),(%d),([^,]+),(%d+),?(%d?)$')
  return pack(RECEIPT, #id, id, whole(rank), STATUSES[status], whole(published), code == '-' and 0 or whole(code), whole(at),
    strength == '' and 0 or whole(strength))
end

local function convert_facts(challenge, kid, digest, is_callers_code)
  return pack(CODE_FACTS, whole(is_callers_code), bytes_of(challenge), bytes_of(digest), #kid, kid)
end

-- The unnamed messages, which are the last field of an old outcome, and the outcome without them.
local function convert_unnamed(outcome)
  local rest, words = string.match(outcome, '^(.*),"unnamed":"([^"]*)"}$')
  if not words then return '', outcome end
  local count, from, till, challenge, kid, digest, is_callers_code, purpose = string.match(words,
    '^(%d+) (%d+) (%d+) (%S+) (%S+) (%S+) (%S+) (%S+)$')
  local facts = challenge == '-' and '' or convert_facts(challenge, kid, digest, is_callers_code)
  if purpose == '-' then purpose = '' end
  return pack('>HI6I6Bc0Bc0', whole(count), whole(from), whole(till), #purpose, purpose, #facts, facts), rest .. '}'
end

-- An old record in the bytes of this layout, and until when it is kept.
local function convert_record(record, recipient)
  local r = {recipient = recipient}
  local state, lease_token, kept_until, receipt, rest = string.match(record, '^(%l+) (%S+) (%d+) (%S+) (.+)$')
  r.lease_token = lease_token == '-' and NO_LEASE or bytes_of(lease_token)
  r.kept_until, r.receipt = whole(kept_until), convert_receipt(receipt)
  if state == 'ended' then
    local unnamed, outcome = convert_unnamed(rest)
    -- Quotes inside JSON strings are escaped, so these patterns match only fields.
    local message_id = string.match(outcome, '"provider_message_id":"([^"\\%s]*)"') or ''
    -- 0: the claim of its message has a key.
    return pack_completed(recipient, r.lease_token, r.kept_until, r.receipt, 0, message_id, unnamed, outcome), r.kept_until
  end
  local words = {string.match(rest, '^(%d+) (%d+) (%d+) (%d+) (%d+) (%S+) (%S+) (%S+) (%d) (%d+) (%d+) (%d+) (%S+) (.+)$')}
  r.state = STATES[state]
  r.busy_until, r.attempts_started, r.attempt_started_at = whole(words[1]), whole(words[2]), whole(words[3])
  r.attempts_in_doubt, r.unfinished_leases = whole(words[4]), whole(words[5])
  r.facts = convert_facts(words[6], words[7], words[8], words[9])
  r.admitted_at, r.expires, r.deadline = whole(words[10]), whole(words[11]), whole(words[12])
  r.purpose, r.history, r.charged = words[13], words[14], ''
  return pack_progress(r), r.kept_until
end

-- Moves the record of a request. For one that cannot be read, writes a stub with length 0, which every later read refuses as damaged.
local function move_record(c, prefix, recipient, request, id_text, now)
  local hex = hex_of(recipient)
  local old_key = prefix .. hex .. ':req:' .. id_text
  local is_string, record = pcall(call, 'GET', old_key)
  if is_string and not record then return end
  -- {P}:id:<text> names the recipient that used the id first. Its record is moved first, so it gets the plain key.
  local first = call('GET', prefix .. 'id:' .. id_text)
  if first and first ~= hex then
    call('DEL', prefix .. 'id:' .. id_text)
    move_record(c, prefix, bytes_of(first), request, id_text, now)
  end
  local is_read, moved, kept_until = pcall(convert_record, record, recipient)
  if not is_read then moved, kept_until = pack(HEADER, LAYOUT, 0) .. recipient, now + DAY end
  local key = prefix .. 'q' .. request
  local at_plain_key = call('GET', key)
  if kept_until > now and not find_record(key, at_plain_key, recipient) then
    local place, kept_px = choose_record_key(c, key, at_plain_key, recipient, c.outcome_px, now)
    call('SET', place, moved, 'PX', kept_px)
    keep_id_text(prefix, request, id_text)
  end
  call('DEL', old_key)
end

local function move_receipts(c, prefix, members, now)
  for _, member in ipairs(members) do
    -- A message is not polled for if its member cannot be read.
    pcall(function()
      local hex, completed_at, id_text = string.match(member, '^%S+ (%x+) (%d+) (%S+)$')
      local recipient, request = bytes_of(hex), request_of(id_text)
      move_record(c, prefix, recipient, request, id_text, now)
      expect_receipt(prefix, recipient, request, whole(completed_at), whole(call('ZSCORE', prefix .. 'receipts', member)), now)
    end)
    call('ZREM', prefix .. 'receipts', member)
  end
end

local function convert_suppression(value)
  local code, till = string.match(value, '^(%d+) (%S+)$')
  return whole(code), till == '-' and NO_END or whole(till)
end

-- Copies a suppression. The old one stays for an earlier version. One that cannot be read is copied as one without an end.
local function copy_suppression(c, prefix, hex, now)
  local old = prefix .. hex
  local is_string, value = pcall(call, 'GET', old .. ':suppressed')
  if is_string and not value then return end
  local is_read, code, till = pcall(convert_suppression, value)
  if not is_read then code, till = 0, NO_END end
  if till <= now then return end
  local recipient = bytes_of(hex)
  local key = prefix .. 's' .. recipient
  local is_sound, s = pcall(function() return read_recipient(key, call('GET', key)) end)
  -- While a recipient's own value cannot be read, its requests fail. If it is deleted, `move_recipient` copies the suppression.
  if not is_sound then return end
  local has_note, note = pcall(function()
    local since, masked_and_reason = string.match(call('GET', old .. ':suppression'), '^(%d+) (.*)$')
    return pack('>I6', whole(since)) .. masked_and_reason
  end)
  if not suppress_recipient(prefix, recipient, s, code, till == NO_END and NO_END or till - now, now, '') then return end
  write_recipient(key, s, c.window, now)
  if has_note then call('SET', prefix .. 'n' .. recipient, note, 'KEEPTTL') else call('DEL', prefix .. 'n' .. recipient) end
end

-- The keys of the suppressions of all countries (ISO 3166: two letters), and the countries.
function reshard.old_country_keys(prefix)
  local names = {}
  for first = 65, 90 do
    for second = 65, 90 do names[#names + 1] = string.char(first, second) end
  end
  local keys = {}
  for i, name in ipairs(names) do keys[i] = prefix .. 'country:' .. name end
  return keys, names
end

local function copy_countries(prefix, now)
  local keys, names = reshard.old_country_keys(prefix)
  for i, value in ipairs(call('MGET', unpack(keys))) do
    if value then
      local is_read, code, till = pcall(convert_suppression, value)
      if is_read and till > now then suppress_country(prefix .. 'c' .. names[i], code, till == NO_END and NO_END or till - now, now) end
    end
  end
end

-- Sets the old workers' key as a mark that there is old data. With an hour to live it does not count as a running worker.
local function note_old_data(prefix)
  if call('EXISTS', prefix .. 'server') == 0 then call('SET', prefix .. 'server', '- 0', 'PX', decimal(HOUR)) end
end

-- One SCAN call, which copies the suppressions that it finds: not all are listed, and those without end may be of any age. Answers the
-- cursor of the next call; 0 after the last; nil if it finds one and there is more than one shard.
local function scan_old_keys(c, prefix, cursor, own_count, now)
  -- Until there is a sign of old data, any key of a recipient is one.
  local kind = call('EXISTS', prefix .. 'server') == 1 and 'suppressed' or '*'
  local pattern = string.gsub(prefix, '[]*?[^\\]', '\\%0') .. string.rep('?', 32) .. ':' .. kind
  local next_cursor, found = unpack(server_call('SCAN', cursor, 'MATCH', pattern, 'COUNT', BATCH))
  for _, key in ipairs(found) do
    local hex, its_kind = sub(key, #prefix + 1, #prefix + 32), sub(key, #prefix + 34)
    if not find(hex, '%X') then
      if own_count > 1 then return nil end
      note_old_data(prefix)
      if its_kind == 'suppressed' then copy_suppression(c, prefix, hex, now) end
    end
  end
  return next_cursor
end

function reshard.open_until(till, now) return format('o %.0f %.0f', till, max(0, till - now)) end

-- The answer of the opening if the data is open, or may not be used; nil if it is to be opened.
function reshard.check_format(key, own_count, now)
  local is_string, recorded = pcall(call, 'GET', key)
  local number, till, count, target = reshard.read_format(is_string and recorded or '')
  if recorded and not number then return 'd format' end
  if number and (number ~= decimal(LAYOUT) or not till) then return 'f ' .. number end
  local refusal = number and reshard.refusal(count, target, own_count)
  if refusal then return refusal end
  local is_running, has_run = old_worker(sub(key, 1, -1 - #'format'))
  if is_running then return 'w' end
  if number and not has_run then return reshard.open_until(till, now) end
  if own_count > 1 and has_run then return 'l' end
end

-- Format: asks whether the data is open. Only reads, so it is answered by a server that refuses writes.
-- KEYS     format
-- ARGV     settings; number of shards
-- Answers  as `open_store`; `m 0`: it is to be opened
function reshard.read_whether_open(keys, args)
  return reshard.check_format(keys[1], tonumber(args[2]), clock(settings_of(args[1]).test_time)) or 'm 0'
end

-- Open: makes sure that the data is of this layout, and copies what all requests share. The format is written last: a failover that
-- loses any of these writes loses it, too, and without it every process opens again. If an old worker has run since, it is deleted
-- first.
-- KEYS     format
-- ARGV     settings; cursor of the scan so far; number of shards. With more than one, data of layout 1 is not moved.
-- Answers  o UNTIL LEFT: open; records of layout 1 may exist until then (0: none), for this many ms | m CURSOR: to be
--          repeated | f NUMBER: the data has another layout | w: an old worker is running | d KEY: cannot be read | s NUMBER OWN: it
--          has another number of shards | x FROM TO: a change of that number is not finished | l: it is of layout 1
local function open_store(keys, args)
  local c, cursor, own_count = settings_of(args[1]), args[2], tonumber(args[3])
  local now, prefix = clock(c.test_time), sub(keys[1], 1, -1 - #'format')
  local answer = reshard.check_format(keys[1], own_count, now)
  if answer then return answer end
  if call('EXISTS', keys[1]) == 1 then
    call('DEL', keys[1])
    cursor = '0'
  end
  local receipts_key = prefix .. 'receipts'
  if not pcall(call, 'ZCARD', receipts_key) then return 'd receipts' end
  local receipts = call('ZRANGE', receipts_key, 0, BATCH - 1)
  if own_count > 1 and (#receipts > 0 or call('EXISTS', unpack((reshard.old_country_keys(prefix)))) > 0) then return 'l' end
  if #receipts > 0 then
    note_old_data(prefix)
    move_receipts(c, prefix, receipts, now)
    return 'm ' .. cursor
  end
  cursor = scan_old_keys(c, prefix, cursor, own_count, now)
  if not cursor then return 'l' end
  if cursor ~= '0' then return 'm ' .. cursor end
  copy_countries(prefix, now)
  local till = call('EXISTS', prefix .. 'server') == 1 and now + OLD_RECORDS_LIVE or 0
  reshard.write_format(keys[1], till, own_count)
  call('DEL', prefix .. 'server')
  return reshard.open_until(till, now)
end
