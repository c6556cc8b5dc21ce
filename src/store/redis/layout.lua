-- The stored data, layout 2. Numbers are big-endian; times and durations are in milliseconds. `B` is 1 byte, `H` 2, `I3` 3, `I4` 4,
-- `I6` 6; `c16` is 16 bytes; `Bc0` and `Hc0` are bytes after their length. `I6+1`: the number plus one; 0 means none.
--
-- Keys. {P} is REDIS_PREFIX in braces; `prefix` is {P} and the colon. A kind follows, and binary: R the digest of a recipient and D
-- another digest, in 16 bytes each; Q a request in 17: `u` and a UUID, or `h` and a digest of another id.
--   {P}:sR  value of a recipient             {P}:mR<message id>  claim: claims.lua
--   {P}:qQ  record of a request              {P}:nR  note of a suppression, {P}:c<country>: suppressions.lua
--   {P}:tQ  text of an id that is no UUID    {P}:vR  checks that may have been right: checks.lua
--   {P}:pQR  panics of a request: panics.lua {P}:oR  last opt-in or opt-out: suppressions.lua
--   {P}:uD, iD, wD, a  subject logs: the times of sends for a user, an IP, a network, in all: I6 each. U, I, W, A: a
--      list, for a limit of 257 or more: a packed value is rewritten whole
--   {P}:r<minute>, due  receipts to poll for: complete.lua
--   {P}:kD  idempotency key, {P}:kill, workers, primary: shared.lua
--   {P}:states  states of workers: reports.lua; {P}:log-level: log_filter.lua; {P}:outbox, outbox-dropped, outbox-lease:
--      audit.lua
--   {P}:x…  counts of sent and verified codes, and amounts spent: conversion.lua
--   {P}:z…  pumping defence, {P}:y…  recently verified recipients and users: defence.lua
--   {P}:keys  key check values: key_checks.lua
--   {P}:jj, jq, jn  jobs that redact messages at the provider: redactions.lua
--   {P}:e  the book under the budgets: spend.lua
--   {P}:suppressed  recipients: suppressions.lua
--   {P}:format  number of this layout, and until when data of layout 1 may exist: old_layout.lua
-- With more than one shard {P} is that of a shard, REDIS_PREFIX, a colon and two hexadecimal digits in braces, in all names but
-- those of what all requests share; see shards.lua. uD, iD and wD are then sorted sets: charges.lua.
-- {P}:qQ is the plain key of a request. If it holds another recipient's request with the same id, the record is at
-- {P}:qQR. If the plain key is missing, no other is read.
--
-- At a key of another type than a string, GET fails, and so does SET with the option GET. MGET answers nil, as for a missing key.
--
-- Both packed values begin with a header: B layout number, I3 number of the bytes that follow.
-- Recipient
--   I6 kept until, I6 end of the cooldown, I6 deadline of the request that started it, Bc0 that request,
--   I4 provider code of the suppression (0: none, as by an operator), I6 its end (NO_END; 0: not suppressed),
--   Hc0 sends, Hc0 refunds (those after a provider's refusal), Hc0 unsent (requests that ended without a send): entries of
--   23 bytes, I6 time and 17 of the request, oldest first; Hc0 wrong attempts: entries of 14, I6 time and 8 of the check;
--   then each challenge: Bc0 purpose, Hc0 challenge
-- Challenge
--   I6 expiry, B checks (the right one included), Bc0 the check that used it (8 bytes, or none), then the code facts: B 1 if the
--   caller supplied the code, c16 challenge id, c16 digest of the code, Bc0 key id. Of a code that the provider made follow
--   Bc0 verification SID and the unfinished checks: c8 check, Bc0 the SID that it asked about
-- Record of a request
--   common fields: c16 recipient, B state, c8 lease token (NO_LEASE: requeued), I6 kept until, Hc0 receipt; with more than one
--     shard or with a budget also Bc0 charges, if the state is 16 more, or 32 more: they were refunded; then
--   in progress: I6 busy until (end of the lease; requeued: when the next attempt is due), H attempts started, I6 start of the
--     last, H attempts in doubt, H unfinished leases, I6 admission, I6 expiry, I6 deadline, Bc0 purpose, Bc0 code facts,
--     then the history
--   completed: B 1 if the record claims its message (0: a key does), Hc0 message id, Hc0 unnamed messages, then the outcome
-- Unnamed messages: H count, I6 from, I6 until, Bc0 purpose, Bc0 code facts; the last two are empty if the record was lost
-- Receipt: Hc0 message id, B rank, B status, B published (0 or 1), I4 provider code (0: none), I6 time, B suppression strength
-- Charges: entries of 23 bytes, c1 kind (u, i, w: the log; a: a place among all sends), c16 digest (a: zeros), I6 time of the charge
--   (a: until when the place's block is valid). Of kind e: a reservation, see spend.lua; with one shard, too
-- Histories and outcomes are opaque here: `records.rs` packs them. Only a rejection is written here.
--
-- In all files `c` is the settings of a call, `s` the value of a recipient and `r` a record in progress, as tables; `recipient` and
-- `request` are the bytes R and Q.
local LAYOUT = 2
local HOUR, DAY = 3600000, 86400000
-- The largest I6.
local NO_END = 281474976710655
local NO_LEASE = '\0\0\0\0\0\0\0\0'
local SENDING, WAITING, DOUBT, COMPLETED = 1, 2, 3, 4
local REQUEST_ENTRY_BYTES, CHECK_ENTRY_BYTES = 23, 14
-- Functions for more than one shard, of receipts and of reports. Tables, because Lua allows 200 local names for all files together.
local charges, countries, shards, receipts, reports = {}, {}, {}, {}, {}
charges.ENTRY_BYTES, charges.STAND, charges.REFUNDED = 23, 16, 32
-- A log's length is stored in 2 bytes; `pack` would store a larger one without its upper bytes.
local LOG_BYTES_MAX = 65535

-- A `WHOLE_…` format includes the header, so that one `pack` makes the value: each string that Lua makes costs a hash over all of its
-- bytes. `…_BYTES` is the length of the fixed fields after the header.
local HEADER, BODY_AT = '>BI3', 5
local RECIPIENT = '>I6I6I6Bc0I4I6Hc0Hc0Hc0Hc0'
local WHOLE_RECIPIENT, RECIPIENT_BYTES = '>BI3I6I6I6Bc0I4I6Hc0Hc0Hc0Hc0c0', 37
local CHALLENGE, CODE_FACTS = '>I6BBc0', '>Bc16c16Bc0'
local COMMON = '>c16Bc8I6Hc0'
local PROGRESS = '>I6HI6HHI6I6I6Bc0Bc0'
local WHOLE_IN_PROGRESS, IN_PROGRESS_BYTES = '>BI3c16Bc8I6Hc0I6HI6HHI6I6I6Bc0Bc0c0', 71
local WHOLE_COMPLETED, COMPLETED_BYTES = '>BI3c16Bc8I6Hc0BHc0Hc0c0', 38
local COMPLETED_FIELDS = '>BHc0Hc0'
local RECEIPT = '>Hc0BBBI4I6B'

-- The key to blame if reading fails. `call` sets it; a function that reads the value of an earlier command sets it again.
local last_key

-- A function library gets the API of Redis only when a function runs, not while it is loaded. `read` is struct.unpack; Lua's
-- own `unpack` spreads a table.
local pack, read, call, server_call, sub, find, format, digits, max, min, ceil, floor
local function fetch_api()
  pack, read, server_call = struct.pack, struct.unpack, redis.call
  call = function(command, key, ...)
    last_key = key
    return server_call(command, key, ...)
  end
  sub, find, format = string.sub, string.find, string.format
  -- `%d` costs a quarter of `%.0f`, but a server of 32 bits has no room in it for a time.
  digits = format('%d', NO_END) == '281474976710655' and '%d' or '%.0f'
  max, min, ceil, floor = math.max, math.min, math.ceil, math.floor
end

-- The server's time, or the one that a test sets (0: none).
local function clock(test_time)
  if test_time ~= 0 then return test_time end
  local t = server_call('TIME')
  return t[1] * 1000 + floor(t[2] / 1000)
end

-- A stored time as decimal digits. Lua's own conversion takes more, such as `nan`.
local function parse_time(text) return tonumber(string.match(text, '^%d+$')) or error('a number cannot be read') end

-- A number as decimal digits. Lua's own conversion writes large numbers with an exponent.
local function decimal(number) return format(digits, number) end

local function prefix_of(recipient_key) return sub(recipient_key, 1, -1 - #'s' - 16) end

local function check_header(value)
  local layout, length = read(HEADER, value)
  if layout ~= LAYOUT or length ~= #value - BODY_AT + 1 then error('a value is cut off, or of another layout') end
end

local function read_recipient(key, value)
  last_key = key
  local kept_until, cooldown_until, cooldown_deadline, cooldown_request, suppression_code, suppressed_until = 0, 0, 0, '', 0, 0
  local sends, refunds, unsent, wrong, challenges = '', '', '', '', ''
  if value then
    check_header(value)
    local rest_at
    kept_until, cooldown_until, cooldown_deadline, cooldown_request, suppression_code, suppressed_until, sends, refunds, unsent,
      wrong, rest_at = read(RECIPIENT, value, BODY_AT)
    if (#sends + #refunds + #unsent) % REQUEST_ENTRY_BYTES ~= 0 or #wrong % CHECK_ENTRY_BYTES ~= 0 then error('a log cannot be read') end
    challenges = sub(value, rest_at)
  end
  -- With all its fields at once: a table that grows is laid out anew each time.
  return {
    key = key, kept_until = kept_until, cooldown_until = cooldown_until, cooldown_deadline = cooldown_deadline,
    cooldown_request = cooldown_request, suppression_code = suppression_code, suppressed_until = suppressed_until,
    sends = sends, refunds = refunds, unsent = unsent, wrong = wrong, challenges = challenges,
  }
end

-- Writes the value of a recipient, which is kept for `window` at least, and as long as its suppression. The option GET makes SET
-- fail at a key of another type, which MGET takes for missing.
local function write_recipient(key, s, window, now)
  s.kept_until = max(s.kept_until, now + window)
  local sends, refunds, unsent, wrong, challenges = s.sends, s.refunds, s.unsent, s.wrong, s.challenges
  if max(#sends, #refunds, #unsent, #wrong) > LOG_BYTES_MAX then error('a log is too long') end
  local length = RECIPIENT_BYTES + #s.cooldown_request + #sends + #refunds + #unsent + #wrong + #challenges
  local value = pack(WHOLE_RECIPIENT, LAYOUT, length, s.kept_until, s.cooldown_until, s.cooldown_deadline,
    #s.cooldown_request, s.cooldown_request, s.suppression_code, s.suppressed_until, #sends, sends, #refunds, refunds, #unsent, unsent,
    #wrong, wrong, challenges)
  if s.suppressed_until == NO_END then return call('SET', key, value, 'GET') end
  call('SET', key, value, 'PX', decimal(max(s.kept_until, s.suppressed_until) - now), 'GET')
end

-- The packed challenge of a purpose, where its entry begins, and where the next one does. `read` fails if an entry is cut off.
local function find_challenge(s, purpose)
  last_key = s.key
  local challenges, at = s.challenges, 1
  while at <= #challenges do
    local found_purpose, packed, after = read('>Bc0Hc0', challenges, at)
    if found_purpose == purpose then return packed, at, after end
    at = after
  end
end

-- The challenges with a new one for its purpose, and without those whose time is over or cannot be read.
local function with_challenge(s, purpose, packed, kept_after, now)
  last_key = s.key
  local challenges, others, at = s.challenges, '', 1
  while at <= #challenges do
    local other_purpose, other, after = read('>Bc0Hc0', challenges, at)
    local is_kept = other_purpose ~= purpose and #other > 6 and read('>I6', other) + kept_after > now
    if is_kept then others = others .. sub(challenges, at, after - 1) end
    at = after
  end
  return others .. pack('>Bc0Hc0', #purpose, purpose, #packed, packed)
end

local function is_of(record, recipient) return sub(record, BODY_AT, BODY_AT + 15) == recipient end

-- The common fields of a record, without the recipient; where the others begin; its charges, and whether they were refunded.
local function read_common(record)
  local _, state, lease_token, kept_until, receipt, rest_at = read(COMMON, record, BODY_AT)
  local charged, is_refunded = '', false
  if state > COMPLETED then
    is_refunded = state > charges.REFUNDED
    state = state - (is_refunded and charges.REFUNDED or charges.STAND)
    charged, rest_at = read('>Bc0', record, rest_at)
    if #charged % charges.ENTRY_BYTES ~= 0 then error('charges cannot be read') end
  end
  if state < SENDING or state > COMPLETED then error('a state cannot be read') end
  return state, lease_token, kept_until, receipt, rest_at, charged, is_refunded
end

-- A packed record without charges, with charges.
function charges.add(record, charged, is_refunded)
  if charged == '' then return record end
  local state_at, receipt_at = BODY_AT + 16, BODY_AT + 31
  local rest_at = receipt_at + 2 + read('>H', record, receipt_at)
  local state = string.byte(record, state_at) + (is_refunded and charges.REFUNDED or charges.STAND)
  return pack(HEADER, LAYOUT, #record - BODY_AT + 2 + #charged) .. sub(record, BODY_AT, state_at - 1) .. string.char(state)
    .. sub(record, state_at + 1, rest_at - 1) .. pack('>Bc0', #charged, charged) .. sub(record, rest_at)
end

-- The record of a request to a recipient, its key, and whether the plain key is another recipient's. `record` is the value at the
-- plain key, `key`.
local function find_record(key, record, recipient)
  last_key = key
  if not record then return record, key, false end
  if #record < BODY_AT + 15 or read('B', record) ~= LAYOUT then error('a record does not say whose it is') end
  local is_plain_key_taken = not is_of(record, recipient)
  -- The record of another recipient may be damaged.
  if is_plain_key_taken then
    key = key .. recipient
    record = call('GET', key)
  end
  if record then check_header(record) end
  return record, key, is_plain_key_taken
end

-- The record of a request, as `find_record` finds it, unless its time is over.
local function kept_record(key, record, recipient, now)
  record = find_record(key, record, recipient)
  if record and select(3, read_common(record)) > now then return record end
end

-- A record in progress, as a table.
local function read_progress(record, recipient)
  local r = {recipient = recipient}
  local rest_at
  r.state, r.lease_token, r.kept_until, r.receipt, rest_at, r.charged = read_common(record)
  r.busy_until, r.attempts_started, r.attempt_started_at, r.attempts_in_doubt, r.unfinished_leases, r.admitted_at, r.expires,
    r.deadline, r.purpose, r.facts, rest_at = read(PROGRESS, record, rest_at)
  r.history = sub(record, rest_at)
  return r
end

local function pack_in_progress(recipient, state, lease_token, kept_until, receipt, busy_until, attempt, started_at, attempts_in_doubt,
  unfinished_leases, admitted_at, expires, deadline, purpose, facts, history)
  local length = IN_PROGRESS_BYTES + #receipt + #purpose + #facts + #history
  return pack(WHOLE_IN_PROGRESS, LAYOUT, length, recipient, state, lease_token, kept_until, #receipt, receipt, busy_until, attempt,
    started_at, attempts_in_doubt, unfinished_leases, admitted_at, expires, deadline, #purpose, purpose, #facts, facts, history)
end

local function pack_progress(r)
  local record = pack_in_progress(r.recipient, r.state, r.lease_token, r.kept_until, r.receipt, r.busy_until, r.attempts_started,
    r.attempt_started_at, r.attempts_in_doubt, r.unfinished_leases, r.admitted_at, r.expires, r.deadline, r.purpose, r.facts,
    r.history)
  return charges.add(record, r.charged, false)
end

-- A completed record. `shows_claim` is 1 if it shows the claim of its message.
local function pack_completed(recipient, lease_token, kept_until, receipt, shows_claim, message_id, unnamed, outcome)
  local length = COMPLETED_BYTES + #receipt + #message_id + #unnamed + #outcome
  return pack(WHOLE_COMPLETED, LAYOUT, length, recipient, COMPLETED, lease_token, kept_until, #receipt, receipt, shows_claim,
    #message_id, message_id, #unnamed, unnamed, outcome)
end

-- Marks the current attempt as in doubt, and counts it once.
local function mark_in_doubt(r)
  if r.state ~= DOUBT then r.state, r.attempts_in_doubt = DOUBT, r.attempts_in_doubt + 1 end
end

-- Is the handler's count of attempts current? In state SENDING the record may count one attempt more: the one that the handler is
-- about to make. One in doubt has been made.
local function attempts_are_current(r, attempts_made, is_in_doubt)
  return r.attempts_started == attempts_made
    or (not is_in_doubt and r.state == SENDING and r.attempts_started - 1 == attempts_made)
end

-- The number of messages that a request in progress may have, the earliest time of the first, and the latest time of the last.
local function possible_messages(r, now)
  local count = r.attempts_in_doubt + (r.state == SENDING and 1 or 0)
  local only_current_attempt = count == 1 and r.state ~= WAITING
  return count, only_current_attempt and r.attempt_started_at or r.admitted_at, min(now, r.deadline)
end

-- The suppression of a country: its provider code, and its end.
local function read_country(key, value)
  last_key = key
  if #value ~= 10 then error('a suppression cannot be read') end
  return read('>I4I6', value)
end

-- Checks a packed subject log.
local function read_subject_log(key, log)
  last_key = key
  if log and #log % 6 ~= 0 then error('a log cannot be read') end
  return log
end

-- The text of a request id: empty for a UUID, false if it is not kept any more. The rule is `RequestId::RULE`.
local function find_id_text(prefix, request)
  if sub(request, 1, 1) == 'u' then return '' end
  local id_text = call('GET', prefix .. 't' .. request)
  if id_text and (id_text == '' or #id_text > 128 or find(id_text, '[^!-~]')) then error('a request id cannot be read') end
  return id_text
end

local function hex_of(bytes)
  return (string.gsub(bytes, '.', function(byte) return format('%02x', string.byte(byte)) end))
end
