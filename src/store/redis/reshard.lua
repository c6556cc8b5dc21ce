-- Change of the number of shards, while no process runs. Only suppressions move. {P}:format says 'from>to' from the first change of
-- data to the last, so that no process starts meanwhile; and a step that is repeated finds what it needs. The source is deleted when
-- the new number is set, so before that the change can begin again.
--
-- With one shard the keys of recipients stand beside those that all requests share.
local reshard = {
  -- Keys that belong to no shard. Those of countries, of conversion and of the pumping defence stay as well.
  SHARED = {kill = true, workers = true, primary = true, format = true, countries = true, states = true, b = true,
    g = true, keys = true, ['log-level'] = true, outbox = true, ['outbox-dropped'] = true, ['outbox-lease'] = true, jj = true, jq = true,
    jn = true},
  BATCH = 500,
}

-- The format: layout number, until when data of layout 1 may exist, number of shards, and the one that a change leads to. Of another
-- layout only the first can be read; nil if there is none.
function reshard.read_format(text)
  local number, till, count, target = string.match(text, '^(%d+) (%d+) ?(%d*)>?(%d*)$')
  return number or string.match(text, '^%d+'), tonumber(till or ''), tonumber(count or '') or 1, tonumber(target or '')
end

function reshard.write_format(key, till, count, target)
  local words = decimal(LAYOUT) .. ' ' .. decimal(till)
  if count > 1 or target then words = words .. ' ' .. decimal(count) end
  call('SET', key, words .. (target and '>' .. decimal(target) or ''))
end

-- Why a process for this number of shards may not use the data, or nil.
function reshard.refusal(count, target, own_count)
  if target then return format('x %d %d', count, target) end
  if count ~= own_count then return format('s %d %d', count, own_count) end
end

-- The keys of a tag that one SCAN call finds, without the shared ones; and the cursor of the next call.
function reshard.scan(prefix, cursor)
  local pattern = string.gsub(prefix, '[]*?[^\\]', '\\%0') .. '*'
  local next_cursor, found = unpack(server_call('SCAN', cursor, 'MATCH', pattern, 'COUNT', reshard.BATCH))
  local keys = {}
  for _, key in ipairs(found) do
    local name = sub(key, #prefix + 1)
    if not reshard.SHARED[name] and not find(name, '^c%u%u$') and not find(name, '^[xz]') then keys[#keys + 1] = key end
  end
  return next_cursor, keys
end

function reshard.prefix_of_tag(suppressed_key) return sub(suppressed_key, 1, -1 - #'suppressed') end

-- Begin: notes that the number changes, unless something is in the way.
-- KEYS     format
-- ARGV     settings, the next number, 1 if this only asks
-- Answers  n: no data | f NUMBER: data of another layout | r: a process is running, or was within 15 s | x FROM TO: another change
--          is not finished | l: data of layout 1 may exist | b FROM: begun, or nothing to change if FROM is the number
function reshard.begin(keys, args)
  local now, next_count = clock(settings_of(args[1]).test_time), tonumber(args[2])
  local text = call('GET', keys[1])
  if not text then return 'n' end
  local number, till, count, target = reshard.read_format(text)
  if number and (number ~= decimal(LAYOUT) or not till) then return 'f ' .. number end
  if not number then error('the format cannot be read') end
  local prefix = sub(keys[1], 1, -1 - #'format')
  -- Every heartbeat writes it with a day to live; one of layout 1 writes the other.
  for _, name in ipairs({'primary', 'server'}) do
    if call('PTTL', prefix .. name) > DAY - 15000 then return 'r' end
  end
  if target and target ~= next_count then return format('x %d %d', count, target) end
  if till > now then return 'l' end
  if args[3] == '0' and count ~= next_count then reshard.write_format(keys[1], till, count, next_count) end
  return 'b ' .. decimal(count)
end

-- Adds what a key holds to the counts: live requests, completed requests and other marks against repeats, recipients and subjects with
-- limits, codes, receipts to poll for, values that cannot be read.
function reshard.count(c, prefix, key, name, counts, now)
  local kind, length = sub(name, 1, 1), #name
  if kind == 's' and length == 17 then
    local s = read_recipient(key, call('GET', key))
    if s.kept_until > now and s.sends .. s.refunds .. s.unsent .. s.wrong ~= '' then counts.limits = counts.limits + 1 end
    local at = 1
    while at <= #s.challenges do
      local _, packed, after = read('>Bc0Hc0', s.challenges, at)
      local expires, _, used_by = read(CHALLENGE, packed)
      if expires > now and used_by == '' then counts.codes = counts.codes + 1 end
      at = after
    end
  elseif kind == 'q' and (length == 18 or length == 34) then
    local record = call('GET', key)
    check_header(record)
    local recipient = sub(record, BODY_AT, BODY_AT + 15)
    local state, _, kept_until = read_common(record)
    if kept_until <= now then return end
    if state ~= COMPLETED and read_progress(record, recipient).deadline > now then
      counts.live = counts.live + 1
    else
      counts.completed = counts.completed + 1
    end
  elseif kind == 'k' and length == 17 then
    counts.completed = counts.completed + 1
  elseif kind == 'r' and find(name, '^r%d+$') then
    for i = 0, call('LLEN', key) - 1 do
      -- A message is not polled for if its entry or its record cannot be read.
      local is_read, awaited = pcall(receipts.awaited, c, prefix, call('LINDEX', key, i), now)
      if is_read and awaited then counts.receipts = counts.receipts + 1 end
    end
  elseif find(name, '^[uUiIwW]') and length == 17 or name == 'a' or name == 'A' then
    counts.limits = counts.limits + 1
  end
end

-- Survey: counts what a part of the keys of a tag holds.
-- KEYS     suppressed, of the tag
-- ARGV     settings, cursor
-- Answers  cursor of the next call (0 after the last), then the counts in the order of `reshard.count`
function reshard.survey(keys, args)
  local c, prefix = settings_of(args[1]), reshard.prefix_of_tag(keys[1])
  local now = clock(c.test_time)
  local next_cursor, found = reshard.scan(prefix, args[2])
  local counts = {live = 0, completed = 0, limits = 0, codes = 0, receipts = 0, unreadable = 0}
  for _, key in ipairs(found) do
    if not pcall(reshard.count, c, prefix, key, sub(key, #prefix + 1), counts, now) then counts.unreadable = counts.unreadable + 1 end
  end
  return table.concat({next_cursor, counts.live, counts.completed, counts.limits, counts.codes, counts.receipts, counts.unreadable},
    ' ')
end

-- Suppressions of a tag: reads those that a part of its keys holds.
-- KEYS     suppressed, of the tag
-- ARGV     settings, cursor
-- Answers  Bc0 cursor of the next call (0 after the last), then of each: c16 recipient, I4 provider code, I6 end, Hc0 note
function reshard.read(keys, args)
  local now, prefix = clock(settings_of(args[1]).test_time), reshard.prefix_of_tag(keys[1])
  local next_cursor, found = reshard.scan(prefix, args[2])
  local entries = {}
  for _, key in ipairs(found) do
    if #key == #prefix + 17 and sub(key, #prefix + 1, #prefix + 1) == 's' then
      local s, recipient = read_recipient(key, call('GET', key)), sub(key, -16)
      if s.suppressed_until > now then
        local note = call('GET', prefix .. 'n' .. recipient) or ''
        entries[#entries + 1] = pack('>c16I4I6Hc0', recipient, s.suppression_code, s.suppressed_until, #note, note)
      end
    end
  end
  return pack('>Bc0', #next_cursor, next_cursor) .. table.concat(entries)
end

-- Suppression: writes one into its new shard.
-- KEYS     recipient
-- ARGV     settings; I4 provider code, I6 end, then the note
-- Answers  r: written
function reshard.write(keys, args)
  local now, recipient, prefix = clock(settings_of(args[1]).test_time), sub(keys[1], -16), prefix_of(keys[1])
  local s = read_recipient(keys[1], call('GET', keys[1]))
  local note_at
  s.suppression_code, s.suppressed_until, note_at = read('>I4I6', args[2])
  if s.suppressed_until <= now then return 'r' end
  write_recipient(keys[1], s, 0, now)
  call('ZADD', prefix .. 'suppressed', score(s.suppressed_until), recipient)
  local note = sub(args[2], note_at)
  if note ~= '' and s.suppressed_until == NO_END then
    call('SET', prefix .. 'n' .. recipient, note)
  elseif note ~= '' then
    call('SET', prefix .. 'n' .. recipient, note, 'PX', decimal(s.suppressed_until - now))
  end
  return 'r'
end

-- Deletes a part of the keys of a tag.
-- KEYS     suppressed, of the tag
-- ARGV     settings, cursor
-- Answers  cursor of the next call (0 after the last)
function reshard.delete(keys, args)
  local next_cursor, found = reshard.scan(reshard.prefix_of_tag(keys[1]), args[2])
  if #found > 0 then call('DEL', unpack(found)) end
  return next_cursor
end

-- The suppressions of countries: keys of their own with one shard, a hash with more.
function reshard.move_countries(prefix, is_to_one, now)
  local hash, latest = prefix .. 'countries', 0
  local words = is_to_one and call('HGETALL', hash) or {}
  for i = 1, #words, 2 do
    local _, till = read_country(hash, words[i + 1])
    local key = prefix .. 'c' .. words[i]
    if till == NO_END then call('SET', key, words[i + 1])
    elseif till > now then call('SET', key, words[i + 1], 'PX', decimal(till - now)) end
  end
  if is_to_one then return call('DEL', hash) end
  local first, last = string.byte('AZ', 1, 2)
  for a = first, last do
    for b = first, last do
      local country = string.char(a, b)
      local value = call('GET', prefix .. 'c' .. country)
      if value then
        local _, till = read_country(prefix .. 'c' .. country, value)
        latest = max(latest, till)
        if till > now then call('HSET', hash, country, value) end
        call('DEL', prefix .. 'c' .. country)
      end
    end
  end
  if latest > now and latest ~= NO_END then call('PEXPIRE', hash, decimal(latest - now)) end
end

-- Finish: sets the number that the change leads to. From here on the source is not read any more.
-- KEYS     format
-- ARGV     settings
-- Answers  r: it is set
function reshard.finish(keys, args)
  local now, prefix = clock(settings_of(args[1]).test_time), sub(keys[1], 1, -1 - #'format')
  local number, till, count, target = reshard.read_format(call('GET', keys[1]) or '')
  if not number then error('the format cannot be read') end
  if not target then return 'r' end
  if (count == 1) ~= (target == 1) then reshard.move_countries(prefix, target == 1, now) end
  call('DEL', prefix .. 'b', prefix .. 'g')
  reshard.write_format(keys[1], till, target)
  return 'r'
end
