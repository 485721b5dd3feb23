/* SPDX-License-Identifier: MIT */
#pragma once
/* sanitizer -- is this a build with a sanitizer? Some tricks of the kernel escape the thread sanitizer. */
#if defined(__has_feature)
#define NR_OS_HAS_TSAN      __has_feature(thread_sanitizer)
#define NR_OS_HAS_SANITIZER (NR_OS_HAS_TSAN || __has_feature(address_sanitizer))
#elif defined(__SANITIZE_THREAD__)
#define NR_OS_HAS_TSAN      1
#define NR_OS_HAS_SANITIZER 1
#elif defined(__SANITIZE_ADDRESS__)
#define NR_OS_HAS_TSAN      0
#define NR_OS_HAS_SANITIZER 1
#else
#define NR_OS_HAS_TSAN      0
#define NR_OS_HAS_SANITIZER 0
#endif
