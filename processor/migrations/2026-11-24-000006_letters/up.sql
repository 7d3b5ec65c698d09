-- Dead letters of a reason in order of time, and counts by reason without a
-- look at the letters themselves, however many and large they are.
CREATE INDEX dead_letter_by_reason ON dead_letter (reason, create_time DESC, uid DESC);
