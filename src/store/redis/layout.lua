-- Stored are one packed value for a recipient and one for a request. Numbers are big-endian; times and durations are
-- in milliseconds. `B` is 1 byte, `H` 2, `I3` 3, `I4` 4, `I6` 6; `Bc0` and `Hc0` are bytes after their length.
-- Both begin with B version, I3 number of the bytes that follow.
--
-- Recipient, {P}:s<digest of 16 bytes>
--   I6 kept until, I6 end of the cooldown, I6 deadline of the request that started it, Bc0 that request,
--   I4 provider code of the suppression (0: none, as by an operator), I6 its end (NO_END; 0: not suppressed),
--   Hc0 sends, Hc0 refunds (those after a provider's refusal), Hc0 unsent (requests that ended without a send): entries of
--   23 bytes, I6 time and 17 of the request, oldest first; Hc0 wrong attempts: entries of 14, I6 time and 8 of the check;
--   then each challenge: Bc0 purpose, Hc0 body
-- Body of a challenge
--   I6 expiry, B checks (the right one included), Bc0 the check that used it (8 bytes, or none), then the facts: B the
--   caller's code (0 or 1), c16 challenge id, c16 digest of the code, Bc0 key id. Of a code that the provider made follow
--   Bc0 verification SID and the unfinished checks: c8 check, Bc0 the SID that it asked about
-- Request, {P}:q<request of 17 bytes>; with the recipient's 16 bytes behind it if another recipient has the same request id
--   c16 recipient, B state, c8 token of the lease (zeros: requeued), I6 kept until, Hc0 receipt, then
--   in progress: I6 end of the lease, H attempt, I6 its start, H attempts in doubt, H unfinished leases, I6 admission,
--     I6 expiry, I6 deadline, Bc0 purpose, Bc0 facts of the challenge, then the history
--   completed: B the record claims its message (0: a key does), Hc0 message id, Hc0 unnamed messages, then the outcome
-- Unnamed messages: H count, I6 from, I6 until, Bc0 purpose, Bc0 facts; without purpose and facts if the record was lost
-- Receipt: Hc0 message id, B rank, B status, B published (0 or 1), I4 provider code (0: none), I6 time, B suppression strength
-- A request is 17 bytes: `u` and a UUID, or `h` and a digest of another id, whose text is in {P}:t<17 bytes>.
-- Histories and outcomes are opaque here: `records.rs` packs them. Only a rejection is written here.
local VERSION = 2
local HOUR, DAY = 3600000, 86400000
local NO_END = 281474976710655
local NO_OWNER = '\0\0\0\0\0\0\0\0'
local SENDING, WAITING, DOUBT, COMPLETED = 1, 2, 3, 4
local REQUEST_ENTRY, CHECK_ENTRY = 23, 14
-- Its length has two bytes, and `pack` does not check it.
local LOG_BYTES_MAX = 65535

-- Each format of a whole value includes its seal, and its number of bytes is without it and without the strings: one `pack`
-- makes a value, because each string that Lua makes is hashed over all of its bytes.
local SEAL, SEALED = '>BI3', 5
local RECIPIENT = '>I6I6I6Bc0I4I6Hc0Hc0Hc0Hc0'
local SEALED_RECIPIENT, RECIPIENT_BYTES = '>BI3I6I6I6Bc0I4I6Hc0Hc0Hc0Hc0c0', 37
local BODY, FACTS = '>I6BBc0', '>Bc16c16Bc0'
local HEAD = '>c16Bc8I6Hc0'
local PROGRESS = '>I6HI6HHI6I6I6Bc0Bc0'
local SEALED_IN_PROGRESS, IN_PROGRESS_BYTES = '>BI3c16Bc8I6Hc0I6HI6HHI6I6I6Bc0Bc0c0', 71
local SEALED_COMPLETED, COMPLETED_BYTES = '>BI3c16Bc8I6Hc0BHc0Hc0c0', 38
local COMPLETION = '>BHc0Hc0'
local RECEIPT = '>Hc0BBBI4I6B'

-- The key of the last command, or whose value is being read: the answer to an error names it. So a value is read right after
-- its command, or by a function that sets this.
local touched

-- A function library gets the API of Redis only when a function runs, not while it is loaded.
local pack, read, call, server_call, sub, find, format, digits, max, min, ceil, floor
local function fetch_api()
  pack, read, server_call = struct.pack, struct.unpack, redis.call
  call = function(command, key, ...)
    touched = key
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
local function number(text) return tonumber(string.match(text, '^%d+$')) or error('a number cannot be read') end

-- A number as decimal digits. Lua's own conversion writes large numbers with an exponent.
local function decimal(number) return format(digits, number) end

local function prefix_of(recipient_key) return sub(recipient_key, 1, -18) end

local function check_seal(value)
  local version, length = read(SEAL, value)
  if version ~= VERSION or length ~= #value - SEALED + 1 then error('a value is cut off, or of another version') end
end

local function read_recipient(key, value)
  touched = key
  local kept_until, cooldown_until, cooldown_deadline, cooldown_request, suppression_code, suppressed_until = 0, 0, 0, '', 0, 0
  local sends, refunds, unsent, wrong, challenges = '', '', '', '', ''
  if value then
    check_seal(value)
    local rest
    kept_until, cooldown_until, cooldown_deadline, cooldown_request, suppression_code, suppressed_until, sends, refunds, unsent,
      wrong, rest = read(RECIPIENT, value, SEALED)
    if (#sends + #refunds + #unsent) % REQUEST_ENTRY ~= 0 or #wrong % CHECK_ENTRY ~= 0 then error('a log cannot be read') end
    challenges = sub(value, rest)
  end
  -- With all its fields at once: a table that grows is laid out anew each time.
  return {
    key = key, kept_until = kept_until, cooldown_until = cooldown_until, cooldown_deadline = cooldown_deadline,
    cooldown_request = cooldown_request, suppression_code = suppression_code, suppressed_until = suppressed_until,
    sends = sends, refunds = refunds, unsent = unsent, wrong = wrong, challenges = challenges,
  }
end

-- Writes the value of a recipient, which is kept for `window` at least, and as long as its suppression.
-- SET with GET fails where the key has another type, which MGET takes for no value.
local function write_recipient(key, s, window, now)
  s.kept_until = max(s.kept_until, now + window)
  local sends, refunds, unsent, wrong, challenges = s.sends, s.refunds, s.unsent, s.wrong, s.challenges
  if max(#sends, #refunds, #unsent, #wrong) > LOG_BYTES_MAX then error('a log is too long') end
  local length = RECIPIENT_BYTES + #s.cooldown_request + #sends + #refunds + #unsent + #wrong + #challenges
  local value = pack(SEALED_RECIPIENT, VERSION, length, s.kept_until, s.cooldown_until, s.cooldown_deadline,
    #s.cooldown_request, s.cooldown_request, s.suppression_code, s.suppressed_until, #sends, sends, #refunds, refunds, #unsent, unsent,
    #wrong, wrong, challenges)
  if s.suppressed_until == NO_END then return call('SET', key, value, 'GET') end
  call('SET', key, value, 'PX', decimal(max(s.kept_until, s.suppressed_until) - now), 'GET')
end

-- The end of the entry of a challenge is checked by `read` itself, which fails where the value ends too early.
local function find_challenge(s, purpose)
  touched = s.key
  local challenges, at = s.challenges, 1
  while at <= #challenges do
    local its_purpose, body, after = read('>Bc0Hc0', challenges, at)
    if its_purpose == purpose then return body, at, after end
    at = after
  end
end

-- Replaces the challenge of a purpose, and drops those whose time is over or cannot be read.
local function with_challenge(s, purpose, body, kept_after, now)
  touched = s.key
  local challenges, others, at = s.challenges, '', 1
  while at <= #challenges do
    local its_purpose, its_body, after = read('>Bc0Hc0', challenges, at)
    local is_kept = its_purpose ~= purpose and #its_body > 6 and read('>I6', its_body) + kept_after > now
    if is_kept then others = others .. sub(challenges, at, after - 1) end
    at = after
  end
  return others .. pack('>Bc0Hc0', #purpose, purpose, #body, body)
end

local function is_of(line, recipient) return sub(line, SEALED, SEALED + 15) == recipient end

-- The head of a record: state, token, kept until, receipt, and where its rest begins.
local function read_head(line)
  local _, state, owner, kept_until, receipt, rest = read(HEAD, line, SEALED)
  if state < SENDING or state > COMPLETED then error('a state cannot be read') end
  return state, owner, kept_until, receipt, rest
end

-- The record of a request to a recipient, its key, and whether its id is shared: `line` is what stands at `key`.
local function find_record(key, line, recipient)
  touched = key
  if not line then return line, key, false end
  check_seal(line)
  if is_of(line, recipient) then return line, key, false end
  key = key .. recipient
  line = call('GET', key)
  if line then check_seal(line) end
  return line, key, true
end

-- A record in progress, as a table.
local function read_progress(line, recipient)
  local r = {recipient = recipient}
  local rest
  r.state, r.owner, r.kept_until, r.receipt, rest = read_head(line)
  r.lease_until, r.attempt, r.started_at, r.attempts_in_doubt, r.unfinished_leases, r.admitted_at, r.expires, r.deadline,
    r.purpose, r.facts, rest = read(PROGRESS, line, rest)
  r.history = sub(line, rest)
  return r
end

local function in_progress(recipient, state, owner, kept_until, receipt, lease_until, attempt, started_at, attempts_in_doubt,
  unfinished_leases, admitted_at, expires, deadline, purpose, facts, history)
  local length = IN_PROGRESS_BYTES + #receipt + #purpose + #facts + #history
  return pack(SEALED_IN_PROGRESS, VERSION, length, recipient, state, owner, kept_until, #receipt, receipt, lease_until, attempt,
    started_at, attempts_in_doubt, unfinished_leases, admitted_at, expires, deadline, #purpose, purpose, #facts, facts, history)
end

local function progress_line(r)
  return in_progress(r.recipient, r.state, r.owner, r.kept_until, r.receipt, r.lease_until, r.attempt, r.started_at,
    r.attempts_in_doubt, r.unfinished_leases, r.admitted_at, r.expires, r.deadline, r.purpose, r.facts, r.history)
end

-- A completed record. `claims_it` is 1 if it shows the claim of its message.
local function completed(recipient, owner, kept_until, receipt, claims_it, message_id, unnamed, outcome)
  local length = COMPLETED_BYTES + #receipt + #message_id + #unnamed + #outcome
  return pack(SEALED_COMPLETED, VERSION, length, recipient, COMPLETED, owner, kept_until, #receipt, receipt, claims_it,
    #message_id, message_id, #unnamed, unnamed, outcome)
end

-- Marks the current attempt as in doubt, and counts it once.
local function mark_in_doubt(r)
  if r.state ~= DOUBT then r.state, r.attempts_in_doubt = DOUBT, r.attempts_in_doubt + 1 end
end

-- Is the handler's count of attempts up to date? In state SENDING the record already counts the attempt about to be made.
-- A handler that has not made it knows one fewer; that is accepted unless `was_made`.
local function knows_last_attempt(r, attempts_made, was_made)
  return r.attempt == attempts_made or not was_made and r.state == SENDING and r.attempt - 1 == attempts_made
end

-- Of a request in progress: how many messages it may have, the earliest time of the first, and the latest time of the last.
local function possible_messages(r, now)
  local count = r.attempts_in_doubt + (r.state == SENDING and 1 or 0)
  local only_current_attempt = count == 1 and r.state ~= WAITING
  return count, only_current_attempt and r.started_at or r.admitted_at, min(now, r.deadline)
end

-- The suppression of a country: its provider code, and its end.
local function read_country(key, value)
  touched = key
  if #value ~= 10 then error('a suppression cannot be read') end
  return read('>I4I6', value)
end

-- A packed log that recipients share.
local function read_shared(key, log)
  touched = key
  if log and #log % 6 ~= 0 then error('a log cannot be read') end
  return log
end

-- The text of a request id, from its 17 bytes; nothing if it is not kept any more.
local function request_text(prefix, request)
  return sub(request, 1, 1) == 'u' and '' or call('GET', prefix .. 't' .. request)
end
