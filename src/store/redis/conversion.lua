-- Counts of sent and verified codes, and of messages and the amounts spent on them, by bucket and dimension. They are packed, and a
-- bucket's names are spread over hashes so small that Redis keeps them compact.
--
-- {P}:xw, a hash: writer → I6 time of its last batch, I4 the batch's sequence.
-- {P}:x<bucket><dimension><part>, a hash: name → I4 sent, I4 verified. The empty name has those for which there was no room. A bucket is
-- `m` and its number of five minutes since 1970, or `h` and its number of hours; the dimension is a letter, the part a number. A name
-- of digits is an I6. A dimension in capitals has I4 messages and I6 millionths in place of I4 sent and I4 verified.
reports.conversion = {
  NAMES_MAX = 100,
  CODES = {form = '>I4I4', bytes = 8, max = 4294967295}, AMOUNTS = {form = '>I4I6', bytes = 10, max = NO_END},
  SENT_MAX = 4294967295,
  WRITER_KEPT = DAY, WRITERS_MAX = 2000,
  -- The width of a bucket, and the time that it is kept after its end.
  FIVE_MINUTES = {letter = 'm', width = 300000, kept = 8100000},
  HOURS = {letter = 'h', width = HOUR, kept = 15 * DAY},
}

function reports.conversion.key(prefix, letter, number, dimension, part)
  return prefix .. 'x' .. letter .. decimal(number) .. dimension .. decimal(part)
end

-- The end of the time in which a bucket counts.
function reports.conversion.kept_until(span, number) return (number + 1) * span.width + span.kept end

-- Forgets the writers that have fallen silent; of more than the most the oldest, as of a process that starts again and again.
function reports.conversion.forget_writers(key, new, now)
  local entries, others = call('HGETALL', key), {}
  for i = 1, #entries, 2 do
    local at = read('>I6', entries[i + 1])
    if at + reports.conversion.WRITER_KEPT <= now then
      call('HDEL', key, entries[i])
    elseif entries[i] ~= new then
      others[#others + 1] = {writer = entries[i], at = at}
    end
  end
  local excess = #others + 1 - reports.conversion.WRITERS_MAX
  if excess <= 0 then return end
  table.sort(others, function(a, b)
    if a.at ~= b.at then return a.at < b.at end
    return a.writer < b.writer
  end)
  for i = 1, excess do call('HDEL', key, others[i].writer) end
end

-- The value of the last batch of a writer, and whether that was this one or a later one.
function reports.conversion.last_batch(key, writer, sequence, now)
  local last = call('HMGET', key, writer)[1]
  if not last then return nil, false end
  local at, last_sequence = read('>I6I4', last)
  return last, at + reports.conversion.WRITER_KEPT > now and sequence <= last_sequence
end

function reports.conversion.remember_batch(key, writer, sequence, last, now)
  call('HSET', key, writer, pack('>I6I4', now, sequence))
  call('PEXPIRE', key, decimal(reports.conversion.WRITER_KEPT))
  if not last then reports.conversion.forget_writers(key, writer, now) end
end

-- The kind of the counts of a dimension. The first number decides which names stay; the second is a sum.
function reports.conversion.kind(dimension)
  return find(dimension, '^%u$') and reports.conversion.AMOUNTS or reports.conversion.CODES
end

function reports.conversion.sum(kind, a, b)
  return {first = min(a.first + b.first, reports.conversion.SENT_MAX), second = min(a.second + b.second, kind.max)}
end

function reports.conversion.counts(kind, value)
  if not value then return nil end
  local first, second = read(kind.form, value)
  return {first = first, second = second}
end

-- Removes the names with the fewest sends, of these the oldest; not those that are added to. Answers their number and sum. Most names have
-- one send, so that counting how many names have how many sends costs less than sorting them.
function reports.conversion.evict(kind, key, count, added)
  local entries, candidates, sends, names_with, distinct = call('HGETALL', key), {}, {}, {}, {}
  for i = 1, #entries, 2 do
    local name = entries[i]
    if name ~= '' and not added[name] then
      local sent = read('>I4', entries[i + 1])
      candidates[#candidates + 1], sends[#sends + 1] = i, sent
      if not names_with[sent] then names_with[sent], distinct[#distinct + 1] = 0, sent end
      names_with[sent] = names_with[sent] + 1
    end
  end
  count = min(count, #candidates)
  table.sort(distinct)
  -- Of those with fewer than `last` sends all go, and the first of those with so many.
  local left, last, of_last = count, -1, 0
  for _, sent in ipairs(distinct) do
    if left == 0 then break end
    last, of_last = sent, min(left, names_with[sent])
    left = left - of_last
  end
  local gone, sum = {}, nil
  for place, i in ipairs(candidates) do
    local sent = sends[place]
    if sent < last or sent == last and of_last > 0 then
      if sent == last then of_last = of_last - 1 end
      gone[#gone + 1] = entries[i]
      local counts = reports.conversion.counts(kind, entries[i + 1])
      sum = sum and reports.conversion.sum(kind, sum, counts) or counts
    end
  end
  if #gone > 0 then call('HDEL', key, unpack(gone)) end
  return count, sum
end

-- Adds to a group, the names of one part of a bucket: `names` in order, and `added` their counts.
function reports.conversion.add_to(group)
  local key, names, added, kind = group.key, group.names, group.added, group.kind
  local stored = call('HMGET', key, '', unpack(names))
  local other, other_changed, new, changes = reports.conversion.counts(kind, stored[1]), false, 0, {}
  local function add_to_other(counts) other, other_changed = other and reports.conversion.sum(kind, other, counts) or counts, true end
  for i, name in ipairs(names) do
    if name ~= '' and not stored[i + 1] then new = new + 1 end
  end
  local room = 0
  if new > 0 then
    room = reports.conversion.NAMES_MAX - call('HLEN', key) + (stored[1] and 1 or 0)
    if new > room then
      local freed, sum = reports.conversion.evict(kind, key, new - room, added)
      if sum then add_to_other(sum) end
      room = room + freed
    end
  end
  for i, name in ipairs(names) do
    local counts = reports.conversion.counts(kind, name ~= '' and stored[i + 1])
    if counts then
      counts = reports.conversion.sum(kind, counts, added[name])
    elseif name ~= '' and room > 0 then
      counts, room = added[name], room - 1
    end
    if counts then
      changes[#changes + 1] = name
      changes[#changes + 1] = pack(kind.form, counts.first, counts.second)
    else
      add_to_other(added[name])
    end
  end
  if other_changed then
    changes[#changes + 1] = ''
    changes[#changes + 1] = pack(kind.form, other.first, other.second)
  end
  call('HSET', key, unpack(changes))
  call('PEXPIRE', key, decimal(group.lives_for))
end

-- Adds the counts of a batch to their buckets, once.
-- KEYS     writers
-- ARGV     settings; c8 writer, I4 sequence, then of each entry I4 number of its five minutes, c1 dimension, B part, Bc0 name, and its
--          two counts
-- Answers  a: added, by this call or an earlier one
function reports.conversion.add(keys, args)
  local now, prefix = clock(settings_of(args[1]).test_time), sub(keys[1], 1, -1 - #'xw')
  local writer, sequence, at = read('>c8I4', args[2])
  local last, is_known = reports.conversion.last_batch(keys[1], writer, sequence, now)
  if is_known then return 'a' end
  local groups, by_head = {}, {}
  while at <= #args[2] do
    -- Entries with the same beginning count in the same two parts.
    local head = sub(args[2], at, at + 5)
    local its_groups = by_head[head]
    if not its_groups then
      its_groups = reports.conversion.groups_of(prefix, head, groups, now)
      by_head[head] = its_groups
    end
    local kind, name, first, second = reports.conversion.kind(sub(head, 5, 5)), nil, nil, nil
    name, at = read('>Bc0', args[2], at + 6)
    first, second, at = read(kind.form, args[2], at)
    for _, group in ipairs(its_groups) do
      local counts = group.added[name]
      if not counts then
        group.names[#group.names + 1], group.added[name] = name, {first = first, second = second}
      else
        group.added[name] = reports.conversion.sum(kind, counts, {first = first, second = second})
      end
    end
  end
  -- A missing right, a key of another type, or a slot that moves must fail before the batch is remembered.
  for _, group in ipairs(groups) do call('HLEN', group.key) end
  reports.conversion.remember_batch(keys[1], writer, sequence, last, now)
  for _, group in ipairs(groups) do reports.conversion.add_to(group) end
  return 'a'
end

-- The parts, one of five minutes and one of an hour, in which the entries with a beginning count, if their time is not over. Each has
-- names and counts to add.
function reports.conversion.groups_of(prefix, head, groups, now)
  local number, dimension, part = read('>I4c1B', head)
  local narrow, hours, found = reports.conversion.FIVE_MINUTES, reports.conversion.HOURS, {}
  -- A clock that is ahead counts now.
  number = min(number, floor(now / narrow.width))
  for _, of in ipairs({{narrow, number}, {hours, floor(number * narrow.width / hours.width)}}) do
    local span, of_span = of[1], of[2]
    local lives_for = reports.conversion.kept_until(span, of_span) - now
    if lives_for > 0 then
      local key = reports.conversion.key(prefix, span.letter, of_span, dimension, part)
      local group = groups[key]
      if not group then
        group = {key = key, kind = reports.conversion.kind(dimension), names = {}, added = {}, lives_for = lives_for}
        groups[key] = group
        groups[#groups + 1] = group
      end
      found[#found + 1] = group
    end
  end
  return found
end

-- Reads the counts of some buckets.
-- KEYS     writers
-- ARGV     settings; c1 dimension, B number of its parts, then of each bucket: c1 letter, I4 number
-- Answers  of each name in each part: B place of the bucket, Bc0 name, and its two counts
function reports.conversion.read(keys, args)
  local now, prefix = clock(settings_of(args[1]).test_time), sub(keys[1], 1, -1 - #'xw')
  local dimension, parts, at = read('>c1B', args[2])
  local answer, place, kind = {}, 0, reports.conversion.kind(dimension)
  while at <= #args[2] do
    local letter, number
    letter, number, at = read('>c1I4', args[2], at)
    local span = letter == 'm' and reports.conversion.FIVE_MINUTES or reports.conversion.HOURS
    if reports.conversion.kept_until(span, number) > now then
      for part = 0, parts - 1 do
        local entries = call('HGETALL', reports.conversion.key(prefix, letter, number, dimension, part))
        for i = 1, #entries, 2 do
          if #entries[i + 1] ~= kind.bytes then error('counts cannot be read') end
          answer[#answer + 1] = pack('>BBc0', place, #entries[i], entries[i]) .. entries[i + 1]
        end
      end
    end
    place = place + 1
  end
  return table.concat(answer)
end
