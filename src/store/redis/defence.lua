-- Pumping defence: records of unverified sends, holds, overrides, and recently verified numbers. `domain/defence.rs` describes the records.
--
-- {P}:zw, a hash: writer → I6 time of its last batch, I4 the batch's sequence, as {P}:xw.
-- {P}:z<kind><part>, hashes: I8 scope → record. The kind is b (block), p (prefix), u (user) or n (network). A scope is its digits as a
--   number, or eight bytes of a digest.
-- Record: I4 minute; H sends of this minute, of the one before and of the one before that; I4 bucket of an hour, in sixtieths of a send;
--   I4 bucket of a day, in parts of 1,440; I3 budget of an hour, I3 of a day
-- {P}:zh, a hash of holds: c1 kind, I8 scope → I6 end, B eighths of the budget that are left when it ends, I4 what is left then in the
--   bucket of an hour, I4 of a day (these two are missing in holds of earlier versions). That of a block stays for half a day after its
--   end: what is left of it does not count to its prefix.
-- {P}:zo, a hash of overrides: c1 kind and a target → I6 end, I6 since, c1 action (a or d), Bc0 shown target, then the reason.
-- {P}:y<part>, hashes: c8 of a digest → H day of the last verification, since 1970. The part is the number of the digest's first two bytes.
-- A record, a hold or an override that cannot be read counts as missing, and is counted: it keeps no other from being used.
reports.defence = {
  RECORD = '>I4HHHI4I4I3I3', RECORD_BYTES = 24, RECORDS_MAX = 100, RECORDS_DROPPED = 25, KEPT = 2 * DAY,
  HOLDS_MAX = 1000, HOLD_MINUTES_MAX = 1440, HOLD_BYTES = 7, ENDED_HOLD_BYTES = 15, ENDED_KEPT = DAY / 2, MINUTE = 60000,
  EIGHTHS = {b = 4, p = 7, u = 7, n = 7}, RELIEF_EIGHTHS = 1,
  -- Of too many holds those of the lowest rank go first. One that has ended has rank 0.
  RANKS = {u = 1, n = 2, b = 3, p = 4},
  OVERRIDES_MAX = 200, OVERRIDE_MAX = 90 * DAY,
  VERIFIED_DAYS = 90, VERIFIED_MAX = 100, VERIFIED_DROPPED = 10,
  COUNT_MAX = 4294967295, PENDING_MAX = 65535,
}

-- The number of a block or a prefix. Of a digest it would be inexact.
function reports.defence.number(id)
  local high, low = read('>I4I4', id)
  return high * 4294967296 + low
end

-- The order of ids. That of strings depends on the server's locale.
function reports.defence.is_before(one, other)
  local high, low = read('>I4I4', one)
  local other_high, other_low = read('>I4I4', other)
  if high ~= other_high then return high < other_high end
  return low < other_low
end

function reports.defence.part_key(prefix, kind, id, of_prefix)
  local part
  if kind == 'b' then
    part = of_prefix % 512 * 8 + reports.defence.number(id) % 8
  elseif kind == 'p' then
    part = reports.defence.number(id) % 64
  elseif kind == 'u' then
    part = select(2, read('>I4I4', id)) % 1024
  else
    part = select(2, read('>I4I4', id)) % 256
  end
  return prefix .. 'z' .. kind .. decimal(part)
end

function reports.defence.new_record(minute)
  return {minute = minute, written = minute, pending = {0, 0, 0}, hour = 0, day = 0, per_hour = 0, per_day = 0, is_new = true}
end

-- Moves what is no longer pending to the buckets, and lets them leak.
function reports.defence.advance(r, minute)
  local elapsed = minute - r.minute
  if elapsed <= 0 then return r end
  local aged, pending = 0, {0, 0, 0}
  for age = 1, 3 do
    if age + elapsed <= 3 then pending[age + elapsed] = r.pending[age] else aged = aged + r.pending[age] end
  end
  local most = reports.defence.COUNT_MAX
  r.hour = min(most, max(0, r.hour + 60 * aged - elapsed * r.per_hour))
  r.day = min(most, max(0, r.day + 1440 * aged - elapsed * r.per_day))
  r.minute, r.pending = minute, pending
  return r
end

-- A stored record, brought to this minute; nil if it cannot be read. `written` is its minute before.
function reports.defence.read_record(value, minute)
  if #value ~= reports.defence.RECORD_BYTES then return nil end
  local r = {pending = {}}
  r.minute, r.pending[1], r.pending[2], r.pending[3], r.hour, r.day, r.per_hour, r.per_day = read(reports.defence.RECORD, value)
  r.written = r.minute
  return reports.defence.advance(r, minute)
end

function reports.defence.pack_record(r)
  return pack(reports.defence.RECORD, r.minute, r.pending[1], r.pending[2], r.pending[3], r.hour, r.day, r.per_hour, r.per_day)
end

-- Each change is I4 minute, H sent, H verified. A verification that finds no pending send of its minute is taken off the buckets. With a
-- weight each takes off as many other sends as are expected to stay unverified for one that is verified.
function reports.defence.apply(r, changes, now_minute, weight)
  local most = reports.defence.COUNT_MAX
  for at = 1, #changes, 8 do
    local minute, sent, verified = read('>I4HH', changes, at)
    local age = max(0, r.minute - min(minute, now_minute)) + 1
    if age <= 3 then
      local pending = min(r.pending[age] + sent, reports.defence.PENDING_MAX)
      local taken = min(verified, pending)
      r.pending[age], verified = pending - taken, verified - taken
    else
      r.hour, r.day = min(most, r.hour + 60 * sent), min(most, r.day + 1440 * sent)
    end
    r.hour, r.day = max(0, r.hour - 60 * verified), max(0, r.day - 1440 * verified)
    if weight then
      local others = read('>H', changes, at + 6) * weight
      r.hour = max(0, r.hour - floor(60 * others / (1000 - weight)))
      r.day = max(0, r.day - floor(1440 * others / (1000 - weight)))
    end
  end
end

-- Takes the share of a block whose hold begins off its prefix, but for what an earlier hold has taken off.
function reports.defence.subtract(d, r, name, block)
  local ended, hour, day = d.ended[name], block.hour, block.day
  if ended then
    local minutes = d.minute - floor(ended.till / reports.defence.MINUTE)
    hour = max(0, hour - max(0, ended.hour - minutes * block.per_hour))
    day = max(0, day - max(0, ended.day - minutes * block.per_day))
    d.ended[name] = nil
  end
  for age = 1, 3 do r.pending[age] = max(0, r.pending[age] - block.pending[age]) end
  r.hour, r.day = max(0, r.hour - hour), max(0, r.day - day)
end

function reports.defence.pending_sends(r) return r.pending[1] + r.pending[2] + r.pending[3] end

-- Is a level over the budget of an hour or of a day? With the share of the pending sends, in thousandths.
function reports.defence.is_over(r, weight)
  local pending = reports.defence.pending_sends(r) * weight
  return 1000 * r.hour + 60 * pending > 60000 * r.per_hour or 1000 * r.day + 1440 * pending > 1440000 * r.per_day
end

function reports.defence.has_many(r, weight)
  local pending = reports.defence.pending_sends(r) * weight
  return 4 * (1000 * r.hour + 60 * pending) >= 60000 * r.per_hour or 4 * (1000 * r.day + 1440 * pending) >= 1440000 * r.per_day
end

-- Minutes until at most so many eighths of the budgets are left, if no pending send is verified.
function reports.defence.minutes_until(r, eighths)
  local pending = reports.defence.pending_sends(r)
  local of_hour = max(0, r.hour + 60 * pending - floor(60 * r.per_hour * eighths / 8))
  local of_day = max(0, r.day + 1440 * pending - floor(1440 * r.per_day * eighths / 8))
  local minutes = max(ceil(of_hour / max(1, r.per_hour)), ceil(of_day / max(1, r.per_day)))
  return min(minutes, reports.defence.HOLD_MINUTES_MAX)
end

-- A hold; nil if it cannot be read.
function reports.defence.read_hold(name, value)
  if #name ~= 9 or #value < reports.defence.HOLD_BYTES then return nil end
  local hold = {hour = 0, day = 0}
  hold.till, hold.eighths = read('>I6B', value)
  if #value >= reports.defence.ENDED_HOLD_BYTES then
    hold.hour, hold.day = read('>I4I4', value, reports.defence.HOLD_BYTES + 1)
  end
  return hold
end

-- Reads the holds, and those of blocks that have ended lately. The others are deleted.
function reports.defence.read_holds(d, only_reads)
  local entries = call('HGETALL', d.holds_key)
  for i = 1, #entries, 2 do
    local name = entries[i]
    local hold = reports.defence.read_hold(name, entries[i + 1])
    if not hold then d.unreadable = d.unreadable + 1 end
    if hold and hold.till > d.now then
      d.holds[name] = hold
    elseif hold and sub(name, 1, 1) == 'b' and hold.day > 0 and hold.till + reports.defence.ENDED_KEPT > d.now then
      d.ended[name] = hold
    elseif not only_reads then
      call('HDEL', d.holds_key, name)
    end
  end
end

function reports.defence.write_hold(d, name, hold)
  call('HSET', d.holds_key, name, pack('>I6BI4I4', hold.till, hold.eighths, hold.hour, hold.day))
  call('PEXPIRE', d.holds_key, decimal(reports.defence.KEPT))
end

-- The end of a hold in so many minutes, with the rest of the record then, if no pending send is verified.
function reports.defence.hold_until(d, minutes, eighths, r)
  local pending = reports.defence.pending_sends(r)
  return {
    till = d.now + minutes * reports.defence.MINUTE, eighths = eighths,
    hour = min(reports.defence.COUNT_MAX, max(0, r.hour + 60 * pending - minutes * r.per_hour)),
    day = min(reports.defence.COUNT_MAX, max(0, r.day + 1440 * pending - minutes * r.per_day)),
  }
end

function reports.defence.set_hold(d, name, minutes, eighths, r)
  local hold = reports.defence.hold_until(d, minutes, eighths, r)
  d.holds[name] = hold
  reports.defence.write_hold(d, name, hold)
end

-- Ends a hold before its time.
function reports.defence.end_hold(d, name, eighths, r)
  local hold = reports.defence.hold_until(d, 0, eighths, r)
  d.holds[name] = nil
  if sub(name, 1, 1) == 'b' and hold.day > 0 then
    d.ended[name] = hold
    reports.defence.write_hold(d, name, hold)
  else
    call('HDEL', d.holds_key, name)
  end
end

-- Begins a hold of a scope over its budget, or changes the end of one. True if it begins.
function reports.defence.hold(d, name, r, weight)
  local held = d.holds[name]
  if held then
    local minutes = reports.defence.minutes_until(r, held.eighths)
    if minutes == 0 then
      reports.defence.end_hold(d, name, held.eighths, r)
    elseif d.now + minutes * reports.defence.MINUTE ~= held.till then
      reports.defence.set_hold(d, name, minutes, held.eighths, r)
    end
    return false
  end
  if not reports.defence.is_over(r, weight) then return false end
  local eighths = reports.defence.EIGHTHS[sub(name, 1, 1)]
  reports.defence.set_hold(d, name, max(1, reports.defence.minutes_until(r, eighths)), eighths, r)
  return true
end

-- Of more than the most: first those that have ended, then those of users, of networks, of blocks, of prefixes; of one kind those that
-- end first. So a crowd of users opens no block.
function reports.defence.drop_holds(d)
  local all = {}
  for name, hold in pairs(d.ended) do all[#all + 1] = {name = name, till = hold.till, rank = 0} end
  for name, hold in pairs(d.holds) do
    all[#all + 1] = {name = name, till = hold.till, rank = reports.defence.RANKS[sub(name, 1, 1)] or 0}
  end
  local excess = #all - reports.defence.HOLDS_MAX
  if excess <= 0 then return end
  table.sort(all, function(a, b)
    if a.rank ~= b.rank then return a.rank < b.rank end
    if a.till ~= b.till then return a.till < b.till end
    return reports.defence.is_before(sub(a.name, 2), sub(b.name, 2))
  end)
  for i = 1, excess do
    call('HDEL', d.holds_key, all[i].name)
    d.holds[all[i].name], d.ended[all[i].name] = nil, nil
  end
end

-- The scopes of a batch, in order: each has its changes, and the key of its part. `of_prefix` is the entry of a block's prefix.
function reports.defence.read_entries(prefix, packed, at)
  local entries, of_prefix = {}, nil
  while at <= #packed do
    local entry = {}
    entry.kind, entry.id, entry.per_hour, entry.per_day, entry.weight, entry.changes, at = read('>c1c8I3I3HHc0', packed, at)
    if entry.kind == 'p' then
      of_prefix, entry.digits = entry, reports.defence.number(entry.id)
    elseif entry.kind == 'b' then
      entry.of_prefix = of_prefix
    end
    entry.key = reports.defence.part_key(prefix, entry.kind, entry.id, of_prefix and of_prefix.digits)
    entry.name = entry.kind .. entry.id
    entries[#entries + 1] = entry
  end
  return entries
end

-- Reads the records of the entries, part by part.
function reports.defence.load(d, entries)
  for _, entry in ipairs(entries) do
    local part = d.parts[entry.key]
    if not part then
      part = {key = entry.key, ids = {}, records = {}}
      d.parts[entry.key], d.parts[#d.parts + 1] = part, part
    end
    if part.records[entry.id] == nil then
      part.ids[#part.ids + 1], part.records[entry.id] = entry.id, false
    end
  end
  for _, part in ipairs(d.parts) do
    local values = call('HMGET', part.key, unpack(part.ids))
    for i, id in ipairs(part.ids) do
      if values[i] then
        local r = reports.defence.read_record(values[i], d.minute)
        if r then part.records[id] = r else d.unreadable = d.unreadable + 1 end
      end
    end
  end
end

-- The record of an entry with its changes; nil for a block, a user or a network that has none, if these are verifications alone.
function reports.defence.changed(d, entry)
  local records = d.parts[entry.key].records
  local r = records[entry.id]
  if not r then
    local has_sends = entry.kind == 'p'
    for at = 1, #entry.changes, 8 do has_sends = has_sends or read('>H', entry.changes, at + 4) > 0 end
    if not has_sends then return nil end
    r = reports.defence.new_record(d.minute)
    records[entry.id] = r
  end
  r.per_hour, r.per_day, r.is_changed = entry.per_hour, entry.per_day, true
  reports.defence.apply(r, entry.changes, d.minute, entry.kind == 'n' and entry.weight)
  return r
end

-- Holds the blocks of a prefix that have many unverified sends, and takes their share off it.
function reports.defence.relieve(d, prefix, entry, r)
  local digits = decimal(entry.digits)
  for nth = 0, 7 do
    local key = prefix .. 'zb' .. decimal(entry.digits % 512 * 8 + nth)
    local loaded, blocks = d.parts[key] and d.parts[key].records or {}, {}
    local stored = call('HGETALL', key)
    for i = 1, #stored, 2 do blocks[stored[i]] = loaded[stored[i]] or reports.defence.read_record(stored[i + 1], d.minute) end
    for id, block in pairs(loaded) do
      if block then blocks[id] = block end
    end
    for id, block in pairs(blocks) do
      local name = 'b' .. id
      local is_of_it = sub(decimal(reports.defence.number(id)), 1, #digits) == digits
      if is_of_it and not d.holds[name] and reports.defence.has_many(block, entry.weight) then
        local eighths = reports.defence.RELIEF_EIGHTHS
        reports.defence.set_hold(d, name, max(1, reports.defence.minutes_until(block, eighths)), eighths, block)
        reports.defence.subtract(d, r, name, block)
      end
    end
  end
end

-- After the last block of a prefix.
function reports.defence.end_prefix(d, prefix, entry)
  local r = d.parts[entry.key].records[entry.id]
  if reports.defence.is_over(r, entry.weight) and not d.holds[entry.name] then reports.defence.relieve(d, prefix, entry, r) end
  reports.defence.hold(d, entry.name, r, entry.weight)
end

function reports.defence.add_entries(d, prefix, entries)
  local open
  for _, entry in ipairs(entries) do
    if open and entry.kind ~= 'b' then
      reports.defence.end_prefix(d, prefix, open)
      open = nil
    end
    if entry.kind == 'p' then
      reports.defence.changed(d, entry)
      open = entry
    elseif entry.kind == 'b' then
      local of_prefix = d.parts[open.key].records[open.id]
      if not d.holds[entry.name] then reports.defence.apply(of_prefix, entry.changes, d.minute) end
      local r = reports.defence.changed(d, entry)
      if r and reports.defence.hold(d, entry.name, r, entry.weight) then
        reports.defence.subtract(d, of_prefix, entry.name, r)
      end
    else
      local r = reports.defence.changed(d, entry)
      if r then reports.defence.hold(d, entry.name, r, entry.weight) end
    end
  end
  if open then reports.defence.end_prefix(d, prefix, open) end
end

-- The order in which a full part drops records: its unverified sends now, as after `advance`; -1 if it cannot be read.
function reports.defence.worth(value, minute)
  if #value ~= reports.defence.RECORD_BYTES then return -1, 0 end
  local written, now, before, last, _, day, _, per_day = read(reports.defence.RECORD, value)
  local elapsed, all = max(0, minute - written), now + before + last
  local aged = elapsed >= 3 and all or elapsed == 2 and before + last or elapsed == 1 and last or 0
  if elapsed > 0 then day = min(reports.defence.COUNT_MAX, max(0, day + 1440 * aged - elapsed * per_day)) end
  return day + 1440 * (all - aged), written
end

-- Drops all records without unverified sends; or if these are too few, those with the least, of these the ones that were written first.
-- Not those of the batch.
function reports.defence.drop_least(part, count, minute)
  local entries, candidates, dropped = call('HGETALL', part.key), {}, {}
  for i = 1, #entries, 2 do
    local id = entries[i]
    if not part.records[id] then
      local worth, written = reports.defence.worth(entries[i + 1], minute)
      if worth <= 0 then dropped[#dropped + 1] = id end
      candidates[#candidates + 1] = {id = id, worth = worth, written = written}
    end
  end
  if #dropped < count then
    dropped = {}
    table.sort(candidates, function(a, b)
      if a.worth ~= b.worth then return a.worth < b.worth end
      if a.written ~= b.written then return a.written < b.written end
      return reports.defence.is_before(a.id, b.id)
    end)
    for i = 1, min(count, #candidates) do dropped[i] = candidates[i].id end
  end
  if #dropped > 0 then call('HDEL', part.key, unpack(dropped)) end
end

-- The time to live begins anew with a new record, and otherwise once an hour.
function reports.defence.write(part, minute)
  local changes, new, is_due = {}, 0, false
  for _, id in ipairs(part.ids) do
    local r = part.records[id]
    if r and r.is_changed then
      if r.is_new then new = new + 1 end
      is_due = is_due or r.is_new or floor(r.written / 60) ~= floor(minute / 60)
      changes[#changes + 1] = id
      changes[#changes + 1] = reports.defence.pack_record(r)
    end
  end
  if #changes == 0 then return end
  if new > 0 then
    local excess = call('HLEN', part.key) + new - reports.defence.RECORDS_MAX
    if excess > 0 then reports.defence.drop_least(part, max(excess, reports.defence.RECORDS_DROPPED), minute) end
  end
  call('HSET', part.key, unpack(changes))
  if is_due then call('PEXPIRE', part.key, decimal(reports.defence.KEPT)) end
end

-- Holds and overrides in force: H number of values that cannot be read, H number of holds, of each c9 name, I6 time left; then of each override Bc0 name, I6 time left, I6 end, I6
-- since, c1 action, Bc0 shown target, Hc0 reason.
function reports.defence.pack_list(d, prefix, only_reads)
  local words, count = {''}, 0
  for name, hold in pairs(d.holds) do
    count = count + 1
    words[#words + 1] = name .. pack('>I6', hold.till - d.now)
  end
  words[1] = pack('>H', count)
  local key = prefix .. 'zo'
  local entries, overrides = call('HGETALL', key), {}
  for i = 1, #entries, 2 do
    local is_read, till, since, action, shown, at = pcall(read, '>I6I6c1Bc0', entries[i + 1])
    if not is_read then
      d.unreadable = d.unreadable + 1
    elseif till > d.now then
      local reason = sub(entries[i + 1], at)
      overrides[#overrides + 1] =
        pack('>Bc0I6I6I6c1Bc0Hc0', #entries[i], entries[i], till - d.now, till, since, action, #shown, shown, #reason, reason)
    elseif not only_reads then
      call('HDEL', key, entries[i])
    end
  end
  return pack('>H', min(d.unreadable, 65535)) .. table.concat(words) .. pack('>H', #overrides) .. table.concat(overrides)
end

function reports.defence.begin(keys, args, only_reads)
  local d = {now = clock(settings_of(args[1]).test_time), holds_key = keys[1], holds = {}, ended = {}, parts = {}, unreadable = 0}
  d.minute = floor(d.now / reports.defence.MINUTE)
  reports.defence.read_holds(d, only_reads)
  return d, sub(keys[1], 1, -1 - #'zh')
end

-- Adds the changes of a batch, once, and decides which scopes are held.
-- KEYS     holds
-- ARGV     settings; c8 writer, I4 sequence (0: no changes), then of each prefix, its blocks after it, and of each user and network: c1
--          kind, I8 scope, I3 budget of an hour, I3 of a day, H weight of pending sends, Hc0 changes
-- Answers  the list, as `pack_list`
function reports.defence.add(keys, args)
  local d, prefix = reports.defence.begin(keys, args, false)
  local writer, sequence, at = read('>c8I4', args[2])
  local writers, last, is_known = prefix .. 'zw', nil, true
  if sequence > 0 then last, is_known = reports.conversion.last_batch(writers, writer, sequence, d.now) end
  if not is_known then
    local entries = reports.defence.read_entries(prefix, args[2], at)
    -- A key of another type must fail before the batch is remembered.
    reports.defence.load(d, entries)
    reports.conversion.remember_batch(writers, writer, sequence, last, d.now)
    reports.defence.add_entries(d, prefix, entries)
    for _, part in ipairs(d.parts) do reports.defence.write(part, d.minute) end
    reports.defence.drop_holds(d)
  end
  return reports.defence.pack_list(d, prefix, false)
end

-- Reads the list, and records.
-- KEYS     holds
-- ARGV     settings; of each record c1 kind, I8 scope, I8 prefix of a block
-- Answers  the list, as `pack_list`; then of each record B 1 and the record, or B 0
function reports.defence.read(keys, args)
  local d, prefix = reports.defence.begin(keys, args, true)
  local words = {reports.defence.pack_list(d, prefix, true)}
  for at = 1, #args[2], 17 do
    local kind, id, of_prefix = read('>c1c8c8', args[2], at)
    local key = reports.defence.part_key(prefix, kind, id, reports.defence.number(of_prefix))
    local value = call('HMGET', key, id)[1]
    local r = value and reports.defence.read_record(value, d.minute)
    words[#words + 1] = r and '\1' .. reports.defence.pack_record(r) or '\0'
  end
  return table.concat(words)
end

-- Sets or removes an override.
-- KEYS     overrides
-- ARGV     settings; c1 action (a, d, or - to remove), I6 duration, Bc0 name, Bc0 shown target, then the reason
-- Answers  f: there is no room | o, then the override in force before, as in `pack_list`, if there was one
function reports.defence.override(keys, args)
  local now, key = clock(settings_of(args[1]).test_time), keys[1]
  local action, duration, name, shown, at = read('>c1I6Bc0Bc0', args[2])
  local entries, before, count = call('HGETALL', key), '', 0
  for i = 1, #entries, 2 do
    local is_read, till, since, known_action, known_shown, reason_at = pcall(read, '>I6I6c1Bc0', entries[i + 1])
    if not is_read or till <= now then
      call('HDEL', key, entries[i])
    else
      count = count + 1
      if entries[i] == name then
        local reason = sub(entries[i + 1], reason_at)
        before = pack('>Bc0I6I6I6c1Bc0Hc0', #name, name, till - now, till, since, known_action, #known_shown, known_shown, #reason, reason)
      end
    end
  end
  if action == '-' then
    call('HDEL', key, name)
  elseif before == '' and count >= reports.defence.OVERRIDES_MAX then
    return 'f'
  else
    call('HSET', key, name, pack('>I6I6c1Bc0', now + duration, now, action, #shown, shown) .. sub(args[2], at))
    call('PEXPIRE', key, decimal(reports.defence.OVERRIDE_MAX))
  end
  return 'o' .. before
end

-- Makes room in a part: drops those of past days, or else the oldest.
function reports.defence.drop_verified(key, today)
  local entries, past, all = call('HGETALL', key), {}, {}
  for i = 1, #entries, 2 do
    local day = read('>H', entries[i + 1])
    if today - day > reports.defence.VERIFIED_DAYS then past[#past + 1] = entries[i] end
    local high, low = read('>I4I4', entries[i])
    all[#all + 1] = {name = entries[i], day = day, high = high, low = low}
  end
  if #past > 0 then return call('HDEL', key, unpack(past)) end
  table.sort(all, function(a, b)
    if a.day ~= b.day then return a.day < b.day end
    if a.high ~= b.high then return a.high < b.high end
    return a.low < b.low
  end)
  local dropped = {}
  for i = 1, reports.defence.VERIFIED_DROPPED do dropped[i] = all[i].name end
  call('HDEL', key, unpack(dropped))
end

-- Notes that recipients, or users, have verified a code today.
-- KEYS     their parts
-- ARGV     settings; of each digest, in the order of the parts: c8, B 1 if the part's time to live begins anew. It outlasts the
--          exemption by a day, so that twice a day is enough
-- Answers  n
function reports.defence.note_verified(keys, args)
  local today = floor(clock(settings_of(args[1]).test_time) / DAY)
  local day = pack('>H', today)
  for i, key in ipairs(keys) do
    local name, begins_anew = read('>c8B', args[2], 9 * i - 8)
    local count = call('HSET', key, name, day) == 1 and call('HLEN', key) or 0
    if count > reports.defence.VERIFIED_MAX then
      -- The new one is not among the dropped.
      call('HDEL', key, name)
      reports.defence.drop_verified(key, today)
      call('HSET', key, name, day)
    end
    if begins_anew == 1 or count == 1 then
      call('PEXPIRE', key, decimal((reports.defence.VERIFIED_DAYS + 2) * DAY))
    end
  end
  return 'n'
end

-- Has a recipient, or a user, verified a code within 90 days?
-- KEYS     its part
-- ARGV     settings; c8 of its digest
-- Answers  1 or 0
function reports.defence.has_verified(keys, args)
  local value = call('HMGET', keys[1], args[2])[1]
  local today = floor(clock(settings_of(args[1]).test_time) / DAY)
  return value and today - read('>H', value) <= reports.defence.VERIFIED_DAYS and '1' or '0'
end

-- Forgets it.
-- KEYS     its part
-- ARGV     settings; c8 of its digest
-- Answers  n
function reports.defence.forget_verified(keys, args)
  call('HDEL', keys[1], args[2])
  return 'n'
end
