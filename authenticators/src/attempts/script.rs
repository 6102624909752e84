//! What the server is told to do, each in one step: scripts are atomic.

use std::hash::{BuildHasher as _, RandomState};

use redis::Pipeline;

use super::counted::Counts;

/// Tells two counts of the same key apart, of which the first has expired, or is lost with the server: its value.
pub(super) type Stamp = i64;

/// The stamps of what was taken, in the order of the counts.
pub(super) type Stamps = [Stamp; 2];

/// Asks whether there is room in all counts, and takes it in all of them if there is.
pub(super) fn take(pipeline: &mut Pipeline, counts: &Counts, stamp: Stamp) {
    begin(pipeline, TAKE, counts).arg(stamp);
    for counted in counts.iter().flatten() {
        pipeline.arg(counted.step_ms()).arg(counted.brim_ms());
    }
}

/// Asks whether there is room in all counts.
pub(super) fn look(pipeline: &mut Pipeline, counts: &Counts) {
    take(pipeline, counts, 0);
}

/// Counts a failure for which nothing was taken.
pub(super) fn count(pipeline: &mut Pipeline, counts: &Counts, stamp: Stamp) {
    begin(pipeline, COUNT, counts).arg(stamp);
    for counted in counts.iter().flatten() {
        pipeline.arg(counted.step_ms()).arg(counted.brim_ms());
    }
}

/// Gives back what was taken.
pub(super) fn release(pipeline: &mut Pipeline, counts: &Counts, stamps: Stamps) {
    begin(pipeline, RELEASE, counts);
    for (counted, stamp) in counts.iter().flatten().zip(stamps) {
        pipeline.arg(stamp).arg(counted.step_ms());
    }
}

fn begin<'p>(pipeline: &'p mut Pipeline, script: &str, counts: &Counts) -> &'p mut Pipeline {
    let keys: Vec<String> = counts.iter().flatten().map(|counted| counted.key.name()).collect();
    pipeline.cmd("EVAL").arg(script).arg(keys.len()).arg(keys)
}

/// What the server says to a [`take`] or a [`look`].
pub(super) struct Taken {
    pub(super) has_room: bool,
    /// For each key that is counted, its time to live.
    pub(super) times_to_live: Vec<i64>,
    pub(super) stamps: Stamps,
}

impl Taken {
    /// `None` for what no such server says.
    pub(super) fn parse(answer: &[i64], counts: &Counts) -> Option<Self> {
        let (has_room, keys) = answer.split_first()?;
        let mut stamps = [0; 2];
        let mut times_to_live = Vec::new();
        for (stamp, key) in stamps.iter_mut().zip(keys.chunks(2)) {
            let [time_to_live, told] = key else { return None };
            *stamp = *told;
            times_to_live.push(*time_to_live);
        }
        let complete = keys.len() == 2 * counts.iter().flatten().count();
        complete.then_some(Self { has_room: *has_room == 1, times_to_live, stamps })
    }
}

/// Where a process begins to number its stamps, so that no two make the same. They fit into a number of the server's
/// language, which has 53 bits.
pub(super) fn first_stamp() -> Stamp {
    let random = RandomState::new().hash_one(0_u8) % (1 << 52);
    i64::try_from(random).unwrap_or(0).max(1)
}

/// The times to live are the counts. `ARGV`: a stamp for new keys, 0 to look only; for each key, what a failure adds
/// and how much there is room for. Returns 1 if there is room, and for each key its time to live and its stamp.
const TAKE: &str = "\
local answer, spent = {1}, {} \
for i, key in ipairs(KEYS) do \
    spent[i] = math.max(redis.call('PTTL', key), 0) \
    if spent[i] + ARGV[2 * i] > tonumber(ARGV[2 * i + 1]) then answer[1] = 0 end \
end \
for i, key in ipairs(KEYS) do \
    local stamp = 0 \
    if answer[1] == 1 and ARGV[1] ~= '0' then \
        stamp = spent[i] > 0 and tonumber(redis.call('GET', key)) or tonumber(ARGV[1]) \
        spent[i] = spent[i] + ARGV[2 * i] \
        redis.call('SET', key, stamp, 'PX', spent[i]) \
    end \
    answer[2 * i], answer[2 * i + 1] = spent[i], stamp \
end \
return answer";

/// `ARGV`: as above. Returns the times to live.
const COUNT: &str = "\
local answer = {} \
for i, key in ipairs(KEYS) do \
    local before = math.max(redis.call('PTTL', key), 0) \
    local stamp = before > 0 and tonumber(redis.call('GET', key)) or tonumber(ARGV[1]) \
    answer[i] = math.min(before + ARGV[2 * i], tonumber(ARGV[2 * i + 1])) \
    redis.call('SET', key, stamp, 'PX', answer[i]) \
end \
return answer";

/// `ARGV`: for each key, its stamp and what there is to give back. A key with another stamp is another count. Returns
/// the times to live.
const RELEASE: &str = "\
local answer = {} \
for i, key in ipairs(KEYS) do \
    answer[i] = math.max(redis.call('PTTL', key), 0) \
    if answer[i] > 0 and tonumber(redis.call('GET', key)) == tonumber(ARGV[2 * i - 1]) then \
        answer[i] = math.max(answer[i] - ARGV[2 * i], 0) \
        if answer[i] > 0 then \
            redis.call('SET', key, ARGV[2 * i - 1], 'PX', answer[i]) \
        else \
            redis.call('DEL', key) \
        end \
    end \
end \
return answer";
