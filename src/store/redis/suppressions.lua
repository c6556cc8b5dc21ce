-- Suppressions. That of a recipient is in its packed value; {P}:n<recipient> is its note: I6 since when, masked recipient, reason
-- (and in that of an opt-out a line with the suppression that it keeps);
-- {P}:suppressed is a sorted set of the recipients by the end. That of a country is {P}:c<country>: I4 provider code, I6 end.
-- {P}:o<recipient> is the last opt-in or opt-out by the recipient itself: B 1 opted in, 0 opted out, I6 time. It outlasts every message
-- that it could be older than.
local opts = {COUNTS_FOR = DAY, KEPT = DAY + HOUR, OPTED_IN = 1, OPTED_OUT = 0, REPEATED_WITHIN = 10000, REMOVED = '\nremoved'}

function opts.whole_seconds(time) return time - time % 1000 end

-- The last decision of a recipient, and its time; nothing if it has made none.
function opts.last(prefix, recipient)
  local value = call('GET', prefix .. 'o' .. recipient)
  if not value then return nil end
  if #value ~= 7 then error('an opt-in cannot be read') end
  return read('>BI6', value)
end

function opts.write(prefix, recipient, status, at)
  call('SET', prefix .. 'o' .. recipient, pack('>BI6', status, at), 'PX', decimal(opts.KEPT))
end

function opts.is_opt_out(code, till) return code ~= 0 and till == NO_END end

-- The other suppression that an opt-out keeps: in the note of the opt-out, a line of code, end, since when, masked recipient and reason;
-- and another line if an operator has removed it. Else an opt-in restores it. Nothing if there is none, or it has ended.
function opts.kept(suppression_note, now)
  local code, till, since, text = string.match(sub(suppression_note, 7), '\n(%d+) (%d+) (%d+) (.*)$')
  if not code or tonumber(till) <= now then return nil end
  local is_removed = sub(text, -#opts.REMOVED) == opts.REMOVED
  if is_removed then text = sub(text, 1, -1 - #opts.REMOVED) end
  return {code = tonumber(code), till = tonumber(till), since = tonumber(since), text = text, is_removed = is_removed}
end

-- A note without the line of the kept suppression.
function opts.own_note(suppression_note)
  local at = find(suppression_note, '\n', 7, true)
  return at and sub(suppression_note, 1, at - 1) or suppression_note
end

function opts.with_kept(suppression_note, kept)
  local line = format('\n%s %s %s ', decimal(kept.code), decimal(kept.till), decimal(kept.since))
  return opts.own_note(suppression_note) .. line .. kept.text .. (kept.is_removed and opts.REMOVED or '')
end

-- Keeps another suppression beside the opt-out in force. One that ends later stays.
function opts.keep(prefix, recipient, code, till, now, masked_and_reason)
  local key = prefix .. 'n' .. recipient
  local suppression_note = call('GET', key)
  if not suppression_note or #suppression_note < 6 then
    suppression_note = pack('>I6', now) .. string.match(masked_and_reason, '^%S*')
  end
  local kept = opts.kept(suppression_note, now)
  if kept and kept.is_removed then kept = nil end
  if kept and kept.till >= till then return end
  local since = kept and kept.since or now
  call('SET', key, opts.with_kept(suppression_note, {code = code, till = till, since = since, text = masked_and_reason}))
end

-- Does a suppression that the provider shows for a time still hold? An opt-out does not if the recipient has opted in since.
function opts.still_holds(prefix, recipient, code, duration, time)
  if not time or not opts.is_opt_out(code, duration) then return true end
  local status, at = opts.last(prefix, recipient)
  return status ~= opts.OPTED_IN or at <= time
end


-- The target of a suppression by a provider's answer: 1 the recipient, 2 the country.
countries.TARGET = 2

-- No end is the score `inf`.
local function score(till) return till == NO_END and 'inf' or decimal(till) end

-- Suppresses a recipient until a time. A suppression that ends later stays, but an opt-out takes the place of any other one and keeps
-- it, or is kept beside it. Answers whether `s` changed.
local function suppress_recipient(prefix, recipient, s, code, duration, now, masked_and_reason)
  local till = duration == NO_END and NO_END or now + duration
  local is_opt_out, was_opt_out = opts.is_opt_out(code, till), opts.is_opt_out(s.suppression_code, s.suppressed_until)
  if was_opt_out and not is_opt_out then
    opts.keep(prefix, recipient, code, till, now, masked_and_reason)
    return false
  end
  if s.suppressed_until >= till and (was_opt_out or not is_opt_out) then return false end
  local note_key = prefix .. 'n' .. recipient
  local since, kept_text = now, ''
  if s.suppressed_until > now then
    local old_note = call('GET', note_key)
    local is_read, noted = pcall(function() return read('>I6', old_note) end)
    if is_read then since, kept_text = noted, sub(old_note, 7) end
  end
  local suppression_note = pack('>I6', since) .. masked_and_reason
  if is_opt_out and s.suppressed_until > now then
    local kept = {code = s.suppression_code, till = s.suppressed_until, since = since, text = kept_text}
    suppression_note = opts.with_kept(suppression_note, kept)
  end
  call('ZREMRANGEBYSCORE', prefix .. 'suppressed', '-inf', decimal(now))
  call('ZADD', prefix .. 'suppressed', score(till), recipient)
  if till == NO_END then
    call('SET', note_key, suppression_note)
  else
    call('SET', note_key, suppression_note, 'PX', decimal(duration))
  end
  s.suppression_code, s.suppressed_until = code, till
  return true
end

local function suppress_country(key, code, duration, now)
  local till = duration == NO_END and NO_END or now + duration
  local value = call('GET', key)
  if value and select(2, read_country(key, value)) >= till then return end
  value = pack('>I4I6', code, till)
  if till == NO_END then call('SET', key, value) else call('SET', key, value, 'PX', decimal(duration)) end
end

-- A suppression in force as one entry: I4 provider code, I6 end, then the note (empty: unknown).
local function suppression_entry(prefix, recipient, s, now)
  if s.suppressed_until <= now then return nil end
  return pack('>I4I6', s.suppression_code, s.suppressed_until) .. opts.own_note(call('GET', prefix .. 'n' .. recipient) or '')
end

-- Ends the suppression of a recipient.
function opts.remove_suppression(key, s, c, now)
  local recipient, prefix = sub(key, -16), prefix_of(key)
  if s.suppressed_until ~= 0 then
    s.suppression_code, s.suppressed_until = 0, 0
    write_recipient(key, s, c.window, now)
  end
  call('DEL', prefix .. 'n' .. recipient)
  call('ZREM', prefix .. 'suppressed', recipient)
  -- Of layout 1, too: the store may be opened again, which copies them.
  local old = prefix .. hex_of(recipient)
  call('DEL', old .. ':suppressed', old .. ':suppression')
end

-- Ends an opt-out. The suppression that it kept is in force again.
function opts.end_opt_out(key, s, c, now)
  local recipient, prefix = sub(key, -16), prefix_of(key)
  local note_key = prefix .. 'n' .. recipient
  local kept = opts.kept(call('GET', note_key) or '', now)
  opts.remove_suppression(key, s, c, now)
  if not kept or kept.is_removed then return end
  s.suppression_code, s.suppressed_until = kept.code, kept.till
  write_recipient(key, s, c.window, now)
  call('ZADD', prefix .. 'suppressed', score(kept.till), recipient)
  call('SET', note_key, pack('>I6', kept.since) .. kept.text)
  if kept.till ~= NO_END then call('PEXPIRE', note_key, decimal(kept.till - now)) end
end

-- An operator's removal takes the manual suppression that an opt-out keeps, and leaves the opt-out. A repeat of the call, whose answer
-- was lost, must not take the opt-out: for so long the removed one stays, marked. Answers it as an entry; nothing if there is none.
function opts.remove_kept(prefix, recipient, now)
  local note_key = prefix .. 'n' .. recipient
  local suppression_note = call('GET', note_key) or ''
  local kept = opts.kept(suppression_note, now)
  if not kept or kept.code ~= 0 then return nil end
  local entry = pack('>I4I6I6', 0, kept.till, kept.since) .. kept.text
  kept.till, kept.is_removed = min(kept.till, now + opts.REPEATED_WITHIN), true
  call('SET', note_key, opts.with_kept(suppression_note, kept))
  return entry
end

-- Manual suppression: an operator suppresses a recipient, or removes its suppression, even one that a provider caused.
-- KEYS     recipient
-- ARGV     settings; change: B 1 add, 0 remove, I6 duration (NO_END: without end); masked recipient and reason
-- Answers  the suppression in force after adding, or before removing: an entry; empty if there is none
local function suppress(keys, args)
  local c = settings_of(args[1])
  local add, duration = read('>BI6', args[2])
  local masked_and_reason = args[3]
  local now, recipient, prefix = clock(c.test_time), sub(keys[1], -16), prefix_of(keys[1])
  local note_key = prefix .. 'n' .. recipient
  local s = read_recipient(keys[1], call('GET', keys[1]))
  if add == 0 then
    if opts.is_opt_out(s.suppression_code, s.suppressed_until) then
      local removed = opts.remove_kept(prefix, recipient, now)
      if removed then return removed end
    end
    local removed = suppression_entry(prefix, recipient, s, now)
    -- A late message from before must not opt the recipient out again.
    if opts.is_opt_out(s.suppression_code, s.suppressed_until) then
      opts.write(prefix, recipient, opts.OPTED_IN, opts.whole_seconds(now))
    end
    opts.remove_suppression(keys[1], s, c, now)
    return removed or ''
  end
  -- Without a new reason, that of an earlier manual suppression (stored with provider code 0) stays.
  local since
  if s.suppressed_until > now and s.suppression_code == 0 then
    local suppression_note = call('GET', note_key) or ''
    if #suppression_note > 6 then
      since = read('>I6', suppression_note)
      local old_reason = string.match(sub(suppression_note, 7), '^%S+ ?(.*)$')
      local masked, reason = string.match(masked_and_reason, '^(%S+) ?(.*)$')
      if reason == '' then masked_and_reason = masked .. ' ' .. (old_reason or '') end
    end
  end
  if suppress_recipient(prefix, recipient, s, 0, duration, now, masked_and_reason) then
    write_recipient(keys[1], s, c.window, now)
  elseif since then
    call('SET', note_key, pack('>I6', since) .. masked_and_reason, 'KEEPTTL')
  end
  return suppression_entry(prefix, recipient, s, now)
end

-- Opt-in or opt-out: by a message of the recipient. An opt-in removes an opt-out, and no other suppression.
-- KEYS     recipient
-- ARGV     settings; B 1 opted in, 0 opted out, I6 when the provider got the message, I4 provider code; masked recipient
-- Answers  r: recorded, by this call or an earlier one | o: outdated, a later message or an operator has decided
function opts.record_opt_status(keys, args)
  local c = settings_of(args[1])
  local status, sent_at, code = read('>BI6I4', args[2])
  local now, recipient, prefix = clock(c.test_time), sub(keys[1], -16), prefix_of(keys[1])
  local s = read_recipient(keys[1], call('GET', keys[1]))
  local last_status, last_at = opts.last(prefix, recipient)
  local has_opted_out = opts.is_opt_out(s.suppression_code, s.suppressed_until)
  -- Of two messages in one second the opt-out counts.
  local is_kept_opt_out = last_status == opts.OPTED_OUT and status == opts.OPTED_IN
  if sent_at + opts.COUNTS_FOR < now or last_at and (sent_at < last_at or sent_at == last_at and is_kept_opt_out) then return 'o' end
  if status == opts.OPTED_IN and has_opted_out then
    -- A lost note hides only when it began.
    local is_read, since = pcall(function() return read('>I6', call('GET', prefix .. 'n' .. recipient)) end)
    if is_read and sent_at < opts.whole_seconds(since) then return 'o' end
  end
  opts.write(prefix, recipient, status, sent_at)
  if status == opts.OPTED_OUT then
    local since = min(sent_at, now)
    if suppress_recipient(prefix, recipient, s, code, NO_END, since, args[3]) then write_recipient(keys[1], s, c.window, now) end
  elseif has_opted_out then
    opts.end_opt_out(keys[1], s, c, now)
  end
  return 'r'
end

-- Suppressions: lists suppressed recipients, latest end first. Only reads, so it is answered by a server that refuses writes.
-- KEYS     the list of suppressed recipients
-- ARGV     settings, how many at most
-- Answers  of each: H length of its entry, entry
local function suppressions(keys, args)
  local c = settings_of(args[1])
  local now, prefix = clock(c.test_time), sub(keys[1], 1, -1 - #'suppressed')
  local count_max, entries, offset = tonumber(args[2]), {}, 0
  while #entries < count_max do
    -- Those that have ended are removed when another one begins; and a recipient's value may be lost.
    local page = call('ZRANGE', keys[1], '+inf', '(' .. decimal(now), 'BYSCORE', 'REV', 'LIMIT', offset, count_max)
    for _, recipient in ipairs(page) do
      local key = prefix .. 's' .. recipient
      local entry = suppression_entry(prefix, recipient, read_recipient(key, call('GET', key)), now)
      if entry and #entries < count_max then entries[#entries + 1] = pack('>Hc0', #entry, entry) end
    end
    if #page < count_max then break end
    offset = offset + count_max
  end
  return table.concat(entries)
end
