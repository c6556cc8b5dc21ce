-- Checks of typed codes. A check is counted before the code is compared, or before the provider is asked.
-- Verdicts v REQUESTS: verified: c16 challenge id, Bc0 kind of a key that could not be read (empty: none); then of each recent
--          request of the recipient that has a record: SUMMARY, I4 length of the record, record
--          w LEFT: wrong (B checks left) | u: already used | x AT: expired (I6) | l MS: locked (I6; 0: until a new code) | n: none
--          pending | k: key unavailable (none of our keys made the code) | ?: unanswered: the code may have been right, and the
--          check counts | -: unanswered, and not counted

-- The challenge of a purpose as a table, if it is still kept: it may be used or expired.
local function kept_challenge(c, s, purpose, now)
  local packed, from, after = find_challenge(s, purpose)
  if not packed then return nil end
  local challenge = {purpose = purpose, from = from, after = after, unfinished = {}, sid = ''}
  local facts_at, at
  challenge.expires, challenge.checks, challenge.used_by, facts_at = read(CHALLENGE, packed)
  local _
  _, challenge.id, challenge.digest, challenge.kid, at = read(CODE_FACTS, packed, facts_at)
  challenge.facts = sub(packed, facts_at, at - 1)
  if at <= #packed then challenge.sid, at = read('>Bc0', packed, at) end
  while at <= #packed do
    local check, sid, after_it = read('>c8Bc0', packed, at)
    challenge.unfinished[#challenge.unfinished + 1] = {check = check, sid = sid}
    at = after_it
  end
  return challenge.expires + c.challenge_kept_after > now and challenge or nil
end

local function write_challenge(c, key, s, challenge, now)
  local packed = {pack(CHALLENGE, challenge.expires, challenge.checks, #challenge.used_by, challenge.used_by), challenge.facts}
  if challenge.sid ~= '' or #challenge.unfinished > 0 then packed[3] = pack('>Bc0', #challenge.sid, challenge.sid) end
  for _, asked in ipairs(challenge.unfinished) do packed[#packed + 1] = pack('>c8Bc0', asked.check, #asked.sid, asked.sid) end
  packed = table.concat(packed)
  local entry = pack('>Bc0Hc0', #challenge.purpose, challenge.purpose, #packed, packed)
  s.challenges = sub(s.challenges, 1, challenge.from - 1) .. entry .. sub(s.challenges, challenge.after)
  write_recipient(key, s, c.window, now)
end

-- The beginning of each step: settings, id of the check or challenge, time, value of the recipient, and its challenge, if kept.
local function read_challenge(key, args, id_bytes)
  local c = settings_of(args[1])
  local now = clock(c.test_time)
  local s = read_recipient(key, call('GET', key))
  return c, sub(args[2], 1, id_bytes), now, s, kept_challenge(c, s, sub(args[2], id_bytes + 1), now)
end

-- The verdict on a code that may not be compared now.
local function refused_check(c, s, challenge, now)
  if challenge.expires <= now then return pack('>c1I6', 'x', challenge.expires) end
  local locked = 0
  for _, limit in ipairs(c.recipient_limits) do
    if limit.kind == WRONG then locked = max(locked, own_wait(limit, s, now)) end
  end
  -- The recipient's lock comes first: a new code does not lift it.
  if locked > 0 or challenge.checks >= c.wrong_per_challenge then return pack('>c1I6', 'l', locked) end
end

local function wrong(c, challenge) return pack('>c1B', 'w', max(0, c.wrong_per_challenge - challenge.checks)) end

local function with_record(prefix, recipient, entry, now)
  local key = prefix .. 'q' .. sub(entry, 7)
  local record = kept_record(key, call('GET', key), recipient, now)
  if not record then return end
  -- An id's text is kept longer than a record.
  return (summary(prefix, entry) or error('the text of a request id is missing')) .. pack('>I4c0', #record, record)
end

-- A record that cannot be read is no error: the code would stay unverified until it is mended.
local function verified(c, key, s, challenge, now)
  local prefix, recipient, unreadable, requests = prefix_of(key), sub(key, -16), '', {}
  for _, entry in ipairs(newest_entries(c, s, now)) do
    local is_read, request = pcall(with_record, prefix, recipient, entry, now)
    if is_read then requests[#requests + 1] = request else unreadable = sub(last_key, #prefix + 1, #prefix + 1) end
  end
  return pack('>c1c16Bc0', 'v', challenge.id, #unreadable, unreadable) .. table.concat(requests)
end

-- Verification: checks a typed code.
-- KEYS     recipient
-- ARGV     settings; c8 check, then the purpose; then each of our code keys: the id, and the digest of the typed code under it
-- Answers  a verdict
local function verify(keys, args)
  local c, check, now, s, challenge = read_challenge(keys[1], args, 8)
  if not challenge then return 'n' end
  -- The check is repeated because its answer was lost. It was counted the first time.
  if challenge.used_by == check then return verified(c, keys[1], s, challenge, now) end
  if challenge.used_by ~= '' then return 'u' end
  if find_entry(s.wrong, CHECK_ENTRY_BYTES, check) then return wrong(c, challenge) end
  local refused = refused_check(c, s, challenge, now)
  if refused then return refused end
  local typed
  for i = 3, #args, 2 do
    if args[i] == challenge.kid then typed = args[i + 1] end
  end
  if not typed then return 'k' end
  challenge.checks = challenge.checks + 1
  local answer
  if typed == challenge.digest then
    challenge.used_by, answer = check, verified(c, keys[1], s, challenge, now)
  else
    s.wrong, answer = append(s.wrong, CHECK_ENTRY_BYTES, check, HOUR, now, c.entries_max), wrong(c, challenge)
  end
  write_challenge(c, keys[1], s, challenge, now)
  return answer
end

local function find_unfinished(challenge, check)
  for i, unfinished_check in ipairs(challenge.unfinished) do
    if unfinished_check.check == check then return unfinished_check, i end
  end
end

-- Provider check, first half: the check is counted before the provider is asked.
-- KEYS     recipient, possible checks (the recipient's checks that may have been right), a sorted set: the member is the check's
--          8 bytes and the SID that it asked about
-- ARGV     settings; c8 check, then the purpose; key id of codes that the provider made
-- Answers  a SID: ask the provider; without a SID if it is not known | a verdict
local function begin_provider_check(keys, args)
  local c, check, now, s, challenge = read_challenge(keys[1], args, 8)
  if not challenge then return 'n' end
  if challenge.used_by ~= '' then return 'u' end
  if challenge.kid ~= args[3] then return 'k' end
  -- The step is repeated because its answer was lost. It was counted the first time.
  local unfinished_check = find_unfinished(challenge, check)
  if unfinished_check then return 'a' .. unfinished_check.sid end
  local refused = refused_check(c, s, challenge, now)
  if refused then return refused end
  challenge.checks = challenge.checks + 1
  challenge.unfinished[#challenge.unfinished + 1] = {check = check, sid = challenge.sid}
  -- Counted as wrong until the provider says otherwise.
  s.wrong = append(s.wrong, CHECK_ENTRY_BYTES, check, HOUR, now, c.entries_max)
  -- Kept per recipient, not per challenge: the provider may use one code for several challenges in turn.
  call('ZADD', keys[2], decimal(now), check .. challenge.sid)
  call('ZREMRANGEBYSCORE', keys[2], '-inf', decimal(now - DAY))
  call('PEXPIRE', keys[2], decimal(DAY))
  write_challenge(c, keys[1], s, challenge, now)
  return 'a' .. challenge.sid
end

-- Provider check, second half: the provider's answer decides. A code is verified only once.
-- KEYS     recipient, possible checks
-- ARGV     settings; c8 check, then the purpose; answer: right|found|wrong|not_compared
--          found: the answer was lost, and the provider shows that a right code was checked, perhaps by another check
-- Answers  a verdict
local function finish_provider_check(keys, args)
  local c, check, now, s, challenge = read_challenge(keys[1], args, 8)
  local answer, our_sid, other_sids = args[3], nil, {}
  for _, possible in ipairs(call('ZRANGE', keys[2], 0, -1)) do
    local sid = sub(possible, 9)
    if sub(possible, 1, 8) == check then our_sid = sid else other_sids[sid] = true end
  end
  if our_sid and (answer == 'wrong' or answer == 'not_compared') then call('ZREM', keys[2], check .. our_sid) end

  -- Not a wrong attempt, even if the challenge is gone.
  local wrong_before = s.wrong
  if answer == 'right' or answer == 'not_compared' then s.wrong = without(wrong_before, CHECK_ENTRY_BYTES, check) end
  local unfinished_check, place
  if challenge then unfinished_check, place = find_unfinished(challenge, check) end
  local verdict
  if not challenge then
    verdict = answer == 'not_compared' and '-' or 'n'
  elseif challenge.used_by ~= '' then
    verdict = challenge.used_by == check and verified(c, keys[1], s, challenge, now) or 'u'
  elseif answer == 'wrong' then
    if unfinished_check then table.remove(challenge.unfinished, place) end
    write_challenge(c, keys[1], s, challenge, now)
    return wrong(c, challenge)
  -- If the challenge does not have this check as unfinished, it is a newer challenge, or this step is a repeat.
  elseif not unfinished_check then
    verdict = answer == 'not_compared' and '-' or 'n'
  end
  if verdict then
    if s.wrong ~= wrong_before then write_recipient(keys[1], s, c.window, now) end
    return verdict
  end
  -- `found` proves that this check was right only if its SID is known, and no other possible check asked about the same or an
  -- unknown SID.
  local is_proven = our_sid and our_sid ~= '' and not other_sids[our_sid] and not other_sids['']
  if answer == 'found' and not is_proven then return '?' end
  table.remove(challenge.unfinished, place)
  if answer == 'not_compared' then
    challenge.checks, verdict = challenge.checks - 1, '-'
  else
    challenge.used_by, verdict = check, verified(c, keys[1], s, challenge, now)
    s.wrong = without(s.wrong, CHECK_ENTRY_BYTES, check)
  end
  write_challenge(c, keys[1], s, challenge, now)
  return verdict
end

-- Reopen: undoes the check that verified a challenge, so that its code can be verified again.
-- KEYS     recipient
-- ARGV     settings; c8 check, then the purpose; key id of codes that the provider made, one of our key ids, digest of the right
--          code under it
-- Answers  r: reopened | u: unchanged (another check, or a new challenge)
local function reopen_challenge(keys, args)
  local c, check, now, s, challenge = read_challenge(keys[1], args, 8)
  if not challenge or challenge.used_by ~= check then return 'u' end
  challenge.used_by, challenge.checks = '', challenge.checks - 1
  -- The provider accepts a code only once, so from now on we compare it. It is marked as the caller's (1), so that admission
  -- continues the challenge only for a request that brings the same code.
  if challenge.kid == args[3] then challenge.facts = pack(CODE_FACTS, 1, challenge.id, args[5], #args[4], args[4]) end
  write_challenge(c, keys[1], s, challenge, now)
  return 'r'
end

-- Link: records the SID of a challenge's Verification, unless the challenge was replaced.
-- KEYS     recipient
-- ARGV     settings; c16 challenge id, then the purpose; Verification SID
-- Answers  l: linked | r: replaced
local function link_verification(keys, args)
  local c, id, now, s, challenge = read_challenge(keys[1], args, 16)
  if not challenge or challenge.id ~= id then return 'r' end
  challenge.sid = args[3]
  write_challenge(c, keys[1], s, challenge, now)
  return 'l'
end
