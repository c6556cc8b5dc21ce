-- Steps for more than one shard. A recipient is in the shard of the first digits of its digest, with all keys that a step about it
-- needs. Outside the shards, at REDIS_PREFIX alone, are kill, log-level, outbox, workers, primary, format, the leased blocks, and
-- {P}:countries: a hash of the suppressed countries, each I4 provider code, I6 end. Each worker keeps a copy of it.

-- Country suppression: begins, or goes on until a later end.
-- KEYS     {P}:countries
-- ARGV     settings; I4 provider code, I6 duration (NO_END: without end), then the country
-- Answers  as `suppressed_countries`
function countries.suppress_country(keys, args)
  local now, key = clock(settings_of(args[1]).test_time), keys[1]
  local code, duration, country_at = read('>I4I6', args[2])
  local country, till = sub(args[2], country_at), duration == NO_END and NO_END or now + duration
  local latest, kept, words = till, {country, pack('>I4I6', code, till)}, call('HGETALL', key)
  for i = 1, #words, 2 do
    local _, its_end = read_country(key, words[i + 1])
    if words[i] == country and its_end >= till then return countries.suppressed_countries(keys, args) end
    if its_end > now and words[i] ~= country then
      kept[#kept + 1], kept[#kept + 2] = words[i], words[i + 1]
      latest = max(latest, its_end)
    end
  end
  -- Anew, without those that have ended.
  call('DEL', key)
  call('HSET', key, unpack(kept))
  if latest ~= NO_END then call('PEXPIRE', key, decimal(latest - now)) end
  return countries.suppressed_countries(keys, args)
end

-- Suppressed countries: reads them, and makes sure that what all requests need beside them can be read.
-- KEYS     {P}:countries, and unless they change {P}:b, {P}:g
-- ARGV     settings
-- Answers  of each: Bc0 country, I4 provider code, I6 end
function countries.suppressed_countries(keys, args)
  local now, key, listed = clock(settings_of(args[1]).test_time), keys[1], {}
  if keys[2] then places.check(keys[2], keys[3]) end
  local words = call('HGETALL', key)
  for i = 1, #words, 2 do
    local code, till = read_country(key, words[i + 1])
    if till > now then listed[#listed + 1] = pack('>Bc0I4I6', #words[i], words[i], code, till) end
  end
  return table.concat(listed)
end

-- Server: compares the server of a shard with the last one.
-- KEYS     primary, of the shard
-- ARGV     settings; run id that the worker knows or '-', for how long a new server may have lost writes
-- Answers  for how long it may still have lost writes, run id
function shards.check_server(keys, args)
  local now = clock(settings_of(args[1]).test_time)
  local left, run_id = shards.note_server(keys[1], args[2], args[3], now)
  return decimal(left) .. ' ' .. run_id
end

-- Due receipts: counts the messages of a shard to poll for.
-- KEYS     due, of the shard
-- ARGV     settings
-- Answers  their number
function shards.count_due(keys, args)
  local now, prefix, count = clock(settings_of(args[1]).test_time), sub(keys[1], 1, -1 - #'due'), 0
  for _, minute in ipairs(call('ZRANGE', keys[1], '-inf', decimal(floor(now / 60000)), 'BYSCORE', 'LIMIT', 0, 100)) do
    count = count + call('LLEN', prefix .. 'r' .. minute)
  end
  return decimal(count)
end

-- Shard data: reads what the requests of a shard share. Fails at the first key that cannot be read.
-- KEYS     due and suppressed, of the shard
-- Answers  r: readable
function shards.check_shard_data(keys)
  for _, key in ipairs(keys) do call('ZCARD', key) end
  reports.spend.read_book(sub(keys[1], 1, -1 - #'due') .. 'e')
  return 'r'
end

-- Requests of a user: those that one SCAN call finds among the records of a shard. Nothing lists them, which would cost each request more.
-- KEYS     suppressed recipients, for the shard alone
-- ARGV     settings; cursor, the part of a record that names the user
-- Answers  Bc0 cursor of the next call, `0` after the last; then of each c16 recipient, c17 request, Bc0 text of its id
function shards.requests_of_user(keys, args)
  local c, cursor, user = settings_of(args[1]), args[2], args[3]
  local now, prefix = clock(c.test_time), sub(keys[1], 1, -1 - #'suppressed')
  local pattern = string.gsub(prefix, '[]*?[^\\]', '\\%0') .. 'q*'
  local next_cursor, found = unpack(server_call('SCAN', cursor, 'MATCH', pattern, 'COUNT', 1000))
  local requests = {}
  for _, key in ipairs(found) do
    local record = redis.pcall('GET', key)
    -- One that cannot be read is none of these; it is found by its request.
    if type(record) == 'string' and find(record, user, 1, true) then
      local is_read, _, _, kept_until = pcall(read_common, record)
      local request = sub(key, #prefix + 2, #prefix + 18)
      local is_kept = is_read and kept_until > now
      local is_named, id_text = pcall(find_id_text, prefix, request)
      if is_kept and is_named and id_text then
        requests[#requests + 1] = sub(record, BODY_AT, BODY_AT + 15) .. request .. pack('>Bc0', #id_text, id_text)
      end
    end
  end
  return pack('>Bc0', #next_cursor, next_cursor) .. table.concat(requests)
end
