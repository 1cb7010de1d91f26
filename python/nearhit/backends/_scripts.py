"""What the servers do in one step. Every script touches the keys of one slot only, and can be run again."""

from __future__ import annotations

from dataclasses import dataclass
from hashlib import sha1
from typing import Final


@dataclass(frozen=True, slots=True)
class Script:
    """A script and the name that the server knows it by."""

    body: str
    sha: str


def _script(body: str) -> Script:
    return Script(body, sha1(body.encode(), usedforsecurity=False).hexdigest())


WRITE: Final = _script("""
-- KEYS: entry, ledger, vector set. ARGV: id, created (ms), expires (ms or ''), token, most entries of the place,
-- prefix of entries, vector or '', quantisation, M, EF, channel or '', then the fields.
local function drop(id)
  redis.call('ZREM', KEYS[2], id)
  if KEYS[3] then redis.call('VREM', KEYS[3], id) end
end
local old = redis.pcall('HMGET', KEYS[1], 'c', 'g')
if old.err then return old end
if old[1] and tonumber(old[1]) > tonumber(ARGV[2]) then return 0 end -- somebody has stored a later answer
local token = tonumber(ARGV[4])
if token > 0 and old[2] and tonumber(old[2]) > token then return 0 end -- and somebody took over the lock
local fields = {}
for at = 12, #ARGV do fields[#fields + 1] = ARGV[at] end
redis.call('DEL', KEYS[1])
local put = redis.pcall('HSET', KEYS[1], 'g', token, unpack(fields))
if type(put) == 'table' and put.err then drop(ARGV[1]) return put end
if ARGV[3] ~= '' then redis.call('PEXPIREAT', KEYS[1], ARGV[3]) end
local listed = redis.pcall('ZADD', KEYS[2], ARGV[2], ARGV[1])
local vector = true
if KEYS[3] then
  redis.call('VREM', KEYS[3], ARGV[1])
  if ARGV[7] ~= '' then
    vector = redis.pcall('VADD', KEYS[3], 'FP32', ARGV[7], ARGV[1], ARGV[8], 'EF', ARGV[10], 'M', ARGV[9])
  end
end
for _, done in ipairs({listed, vector}) do
  if type(done) == 'table' and done.err then -- all or nothing
    redis.call('DEL', KEYS[1]) drop(ARGV[1])
    return done
  end
end
for _, id in ipairs(redis.call('ZRANDMEMBER', KEYS[2], 2)) do -- what has ended leaves the books bit by bit
  if redis.call('EXISTS', ARGV[6] .. id) == 0 then drop(id) end
end
local most = tonumber(ARGV[5])
while most > 0 and redis.call('ZCARD', KEYS[2]) > most do
  local id = redis.call('ZRANGE', KEYS[2], 0, 0)[1]
  redis.call('UNLINK', ARGV[6] .. id) drop(id)
end
if ARGV[11] ~= '' then redis.pcall('PUBLISH', ARGV[11], KEYS[1]) end
return 1
""")

FIND: Final = _script("""
-- KEYS: vector set. ARGV: vector, count, EF, least score, prefix of entries, then the fields wanted.
local found = {}
local nearest = redis.call('VSIM', KEYS[1], 'FP32', ARGV[1], 'WITHSCORES', 'COUNT', ARGV[2], 'EF', ARGV[3])
for at = 1, #nearest, 2 do
  if tonumber(nearest[at + 1]) < tonumber(ARGV[4]) then break end
  local fields = redis.pcall('HMGET', ARGV[5] .. nearest[at], unpack(ARGV, 6))
  if not fields.err then
    if fields[1] then found[#found + 1] = fields else redis.pcall('VREM', KEYS[1], nearest[at]) end
  end
end
return found
""")

REMOVE: Final = _script("""
-- KEYS: entry, ledger, vector set. ARGV: id, last moment (ms) whose entries go, 1 to remove the vector only, dim.
local made = redis.pcall('HGET', KEYS[1], 'c')
if type(made) == 'table' then return 0 end
if made and tonumber(made) > tonumber(ARGV[2]) then return 0 end
if KEYS[3] then redis.call('VREM', KEYS[3], ARGV[1]) end
if ARGV[3] == '1' then return redis.call('HDEL', KEYS[1], 'n', 'h' .. ARGV[4], 'f' .. ARGV[4]) end
redis.call('ZREM', KEYS[2], ARGV[1])
return redis.call('UNLINK', KEYS[1])
""")

SWEEP: Final = _script("""
-- KEYS: ledger, vector set. ARGV: cursor, prefix of entries. Removes from both what has no entry any more.
local page = redis.call('ZSCAN', KEYS[1], ARGV[1], 'COUNT', 200)
local gone = 0
for at = 1, #page[2], 2 do
  local id = page[2][at]
  if redis.call('EXISTS', ARGV[2] .. id) == 0 then
    redis.call('ZREM', KEYS[1], id)
    if KEYS[2] then redis.call('VREM', KEYS[2], id) end
    gone = gone + 1
  end
end
if KEYS[2] then -- a vector whose ledger was lost, too
  local some = redis.call('VRANDMEMBER', KEYS[2], 20)
  for _, id in ipairs(some or {}) do
    if redis.call('EXISTS', ARGV[2] .. id) == 0 then redis.call('VREM', KEYS[2], id) gone = gone + 1 end
  end
end
return {page[1], gone}
""")

OPEN: Final = _script("""
-- KEYS: stream, state. ARGV: name for a new log, name of a log to give up or ''. Returns its name and last number.
local epoch = redis.call('HGET', KEYS[2], 'e')
if not epoch or epoch == ARGV[2] or redis.call('EXISTS', KEYS[1]) == 0 then
  redis.call('DEL', KEYS[1], KEYS[2])
  redis.call('HSET', KEYS[2], 'e', ARGV[1], 'n', 1)
  redis.call('XADD', KEYS[1], '1-0', 'k', 'born', 'a', '', 'o', '')
end
return redis.call('HMGET', KEYS[2], 'e', 'n')
""")

TELL: Final = _script("""
-- KEYS: stream, state. ARGV: name for a new log, kind, argument, origin, most events kept. Returns the event's number.
if not redis.call('HGET', KEYS[2], 'e') or redis.call('EXISTS', KEYS[1]) == 0 then
  redis.call('DEL', KEYS[1], KEYS[2])
  redis.call('HSET', KEYS[2], 'e', ARGV[1], 'n', 0)
end
local n = redis.call('HINCRBY', KEYS[2], 'n', 1)
redis.call('XADD', KEYS[1], 'MAXLEN', '~', ARGV[5], n .. '-0', 'k', ARGV[2], 'a', ARGV[3], 'o', ARGV[4])
return n
""")

CLAIM: Final = _script("""
-- KEYS: lock, fence. ARGV: holder, life (ms). Returns the fencing token, or 0 if somebody else holds the lock.
local taken = redis.call('SET', KEYS[1], ARGV[1], 'NX', 'PX', ARGV[2])
if not taken and redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
return redis.call('INCR', KEYS[2])
""")

RELEASE: Final = _script("""
-- KEYS: lock. ARGV: holder.
if redis.call('GET', KEYS[1]) == ARGV[1] then return redis.call('DEL', KEYS[1]) end
return 0
""")

ALL: Final = (WRITE, FIND, REMOVE, SWEEP, OPEN, TELL, CLAIM, RELEASE)
