-- Spend: the book of the amounts under the budgets of an hour and of a day. An admission reserves an amount in the same step as it
-- writes the record, which lists the reservation among its charges; the completion commits or gives it back, once, as it ends the
-- record. So the book agrees with the records, whatever process ends.
--   {P}:e  the book: of each hour and day that counts c1 kind (h, d), I4 its number, I6 reserved, I6 committed
-- Amounts are in millionths of the currency. Numbers count from 1970 in local time: an offset is in minutes, plus those of a day.
-- With more than one shard each has its book, and an admission brings the sums of the others.
reports.spend = {
  ENTRY = '>c1I4I6I6', ENTRY_BYTES = 17,
  -- A reservation among the charges: in place of a digest I6 amount, I4 hour, I4 day, and two zeros.
  RESERVATION = '>c1I6I4I4HI6', LETTER = 'e',
  OFFSET_ZERO = 1440,
  HOUR_LIMIT = 10, DAY_LIMIT = 11,
  BOOK_KEPT = 3 * DAY,
}

function reports.spend.key_of(recipient_key) return prefix_of(recipient_key) .. 'e' end

-- The current hour and day: each with its kind, number and end.
function reports.spend.periods(offset, now)
  local ahead = (offset - reports.spend.OFFSET_ZERO) * 60000
  local function period(kind, width)
    local number = max(0, floor((now + ahead) / width))
    return {kind = kind, number = number, till = (number + 1) * width - ahead}
  end
  return {period('h', HOUR), period('d', DAY)}
end

function reports.spend.read_book(key)
  local packed, book = call('GET', key) or '', {}
  if #packed % reports.spend.ENTRY_BYTES ~= 0 then error('the book cannot be read') end
  for at = 1, #packed, reports.spend.ENTRY_BYTES do
    local entry = {}
    entry.kind, entry.number, entry.reserved, entry.committed = read(reports.spend.ENTRY, packed, at)
    book[#book + 1] = entry
  end
  return book
end

function reports.spend.find(book, kind, number)
  for _, entry in ipairs(book) do
    if entry.kind == kind and entry.number == number then return entry end
  end
end

-- The entry of a current period, a new one if there is none.
function reports.spend.current(book, period)
  local entry = reports.spend.find(book, period.kind, period.number)
  if not entry then
    entry = {kind = period.kind, number = period.number, reserved = 0, committed = 0}
    book[#book + 1] = entry
  end
  return entry
end

-- Writes the book without the hours and days that are neither the current ones nor next to them.
function reports.spend.write_book(key, book, periods)
  local kept = {}
  for _, entry in ipairs(book) do
    local current = periods[entry.kind == 'h' and 1 or 2].number
    if math.abs(entry.number - current) <= 1 then
      kept[#kept + 1] = pack(reports.spend.ENTRY, entry.kind, entry.number, min(entry.reserved, NO_END), min(entry.committed, NO_END))
    end
  end
  call('SET', key, table.concat(kept), 'PX', decimal(reports.spend.BOOK_KEPT))
end

-- The amount that an admission is to reserve, and the book, which is read before anything is written. `packed`: H offset, I6 amount, then
-- of the hour and of the day: I6+1 budget (0: none), I4 number and I6 sum of the other shards.
function reports.spend.asked(recipient_key, packed, now)
  if packed == '' then return nil end
  local offset, amount, at = read('>HI6', packed)
  local asked = {amount = amount, key = reports.spend.key_of(recipient_key), periods = reports.spend.periods(offset, now)}
  asked.book = reports.spend.read_book(asked.key)
  for _, period in ipairs(asked.periods) do
    local budget, number, others
    budget, number, others, at = read('>I6I4I6', packed, at)
    period.budget = budget > 0 and budget - 1
    period.others = number == period.number and others or 0
  end
  return asked
end

-- The time until the budgets allow the amount, and the number of the limit that does not; 0 if they allow it.
function reports.spend.wait(asked, now)
  local left, limit = 0, 0
  for i, period in ipairs(asked and asked.periods or {}) do
    local entry = reports.spend.find(asked.book, period.kind, period.number)
    local used = period.others + (entry and entry.reserved + entry.committed or 0)
    if period.budget and used + asked.amount > period.budget and period.till - now > left then
      left, limit = period.till - now, i == 1 and reports.spend.HOUR_LIMIT or reports.spend.DAY_LIMIT
    end
  end
  return left, limit
end

-- The reservation as a charge of the record; empty if nothing is asked.
function reports.spend.charge_of(asked, now)
  if not asked then return '' end
  local hour, day = unpack(asked.periods)
  return pack(reports.spend.RESERVATION, reports.spend.LETTER, asked.amount, hour.number, day.number, 0, now)
end

function reports.spend.reserve(asked)
  if not asked then return end
  for _, period in ipairs(asked.periods) do
    local entry = reports.spend.current(asked.book, period)
    entry.reserved = entry.reserved + asked.amount
  end
  reports.spend.write_book(asked.key, asked.book, asked.periods)
end

-- The charges without a reservation, and the reservation.
function reports.spend.split_charges(charged)
  for at = 1, #charged, charges.ENTRY_BYTES do
    local letter, amount, hour, day, _, reserved_at = read(reports.spend.RESERVATION, charged, at)
    if letter == reports.spend.LETTER then
      local rest = sub(charged, 1, at - 1) .. sub(charged, at + charges.ENTRY_BYTES)
      return rest, {amount = amount, h = hour, d = day, at = reserved_at}
    end
  end
  return charged, nil
end

-- The current periods by those of a reservation, where the offset is not known: each is the current one, or the one before it.
function reports.spend.periods_since(reservation, now)
  local function since(kind, width)
    return {kind = kind, number = reservation[kind] + max(0, floor((now - reservation.at) / width))}
  end
  return {since('h', HOUR), since('d', DAY)}
end

-- The end of a request: `packed` is H offset, I6 price; empty if none is known, then what was reserved is committed. A request counts in
-- the hour and the day in which it reserved; if they leave the book, or it reserved nothing, it counts now. Reads the book before
-- anything is written; nil if there is nothing to do.
function reports.spend.ending(recipient_key, reservation, packed, nothing_sent, now)
  if not reservation and (packed == '' or nothing_sent == 1) then return nil end
  local ending = {key = reports.spend.key_of(recipient_key), reserved = 0}
  if reservation then ending.reserved, ending.price = reservation.amount, reservation.amount end
  if packed ~= '' then
    local offset
    offset, ending.price = read('>HI6', packed)
    ending.periods = reports.spend.periods(offset, now)
  else
    ending.periods = reports.spend.periods_since(reservation, now)
  end
  if nothing_sent == 1 then ending.price = 0 end
  ending.book = reports.spend.read_book(ending.key)
  ending.entries = {}
  for i, period in ipairs(ending.periods) do
    local own = reservation and reports.spend.find(ending.book, period.kind, reservation[period.kind])
    local is_kept = own and math.abs(own.number - period.number) <= 1
    local committed_in = own
    if not is_kept then committed_in = ending.price > 0 and reports.spend.current(ending.book, period) or nil end
    ending.entries[i] = {own = own, committed_in = committed_in}
  end
  return ending
end

function reports.spend.finish(ending)
  if not ending then return end
  for i = 1, #ending.periods do
    local own, committed_in = ending.entries[i].own, ending.entries[i].committed_in
    if own then own.reserved = max(0, own.reserved - ending.reserved) end
    if committed_in then committed_in.committed = committed_in.committed + ending.price end
  end
  reports.spend.write_book(ending.key, ending.book, ending.periods)
end

-- Book: reads the current hour and day.
-- KEYS     {P}:e
-- ARGV     settings; H offset
-- Answers  of the hour, then of the day: I4 number, I6 reserved, I6 committed
function reports.spend.book(keys, args)
  local now, answer = clock(settings_of(args[1]).test_time), ''
  local book = reports.spend.read_book(keys[1])
  for _, period in ipairs(reports.spend.periods(read('>H', args[2]), now)) do
    local entry = reports.spend.find(book, period.kind, period.number) or {reserved = 0, committed = 0}
    answer = answer .. pack('>I4I6I6', period.number, entry.reserved, entry.committed)
  end
  return answer
end
