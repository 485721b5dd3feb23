/* SPDX-License-Identifier: MIT */
#pragma once
/* sanitizer -- is this a build with the thread sanitizer, which some tricks of the kernel escape? */
#if defined(__has_feature)
#define NR_OS_HAS_TSAN __has_feature(thread_sanitizer)
#elif defined(__SANITIZE_THREAD__)
#define NR_OS_HAS_TSAN 1
#else
#define NR_OS_HAS_TSAN 0
#endif
