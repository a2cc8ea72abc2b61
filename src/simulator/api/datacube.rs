//! Statistics ("WeChat: 数据统计"): days with what this simulator knows, which is next to nothing.

use serde_json::{Value, json};

use super::{Answer, Call, Endpoint, Refusal, post};
use crate::simulator::clock::Day;
use crate::simulator::platform::Platform;

/// What all of these calls take.
const DAYS: &[&str] = &["begin_date", "end_date"];

macro_rules! statistics {
    ($($name:literal $span:literal $rows:ident $summary:literal;)+) => {
        pub(crate) const ENDPOINTS: &[Endpoint] = &[$(
            post(
                concat!("/datacube/", $name),
                $summary,
                DAYS,
                |platform, call| list(platform, call, $span, Rows::$rows),
            )
            .errors(&[61500, 61501]),
        )+];
    };
}

statistics! {
    "getusersummary" 7 Change "获取用户增减数据: up to 7 days";
    "getusercumulate" 7 Followers "获取累计用户数据: up to 7 days";
    "getarticlesummary" 1 Nothing "获取图文群发每日数据: one day";
    "getarticletotal" 1 Nothing "获取图文群发总数据: one day";
    "getuserread" 3 Reads "获取图文统计数据: up to 3 days";
    "getuserreadhour" 1 Nothing "获取图文统计分时数据: one day";
    "getusershare" 7 Nothing "获取图文分享转发数据: up to 7 days";
    "getusersharehour" 1 Nothing "获取图文分享转发分时数据: one day";
    "getupstreammsg" 7 Messages "获取消息发送概况数据: up to 7 days";
    "getupstreammsghour" 1 Nothing "获取消息分送分时数据: one day";
    "getupstreammsgweek" 30 Nothing "获取消息发送周数据: up to 30 days";
    "getupstreammsgmonth" 30 Nothing "获取消息发送月数据: up to 30 days";
    "getupstreammsgdist" 15 Nothing "获取消息发送分布数据: up to 15 days";
    "getupstreammsgdistweek" 30 Nothing "获取消息发送分布周数据: up to 30 days";
    "getupstreammsgdistmonth" 30 Nothing "获取消息发送分布月数据: up to 30 days";
    "getinterfacesummary" 30 Pushes "获取被动回复概要数据: up to 30 days";
    "getinterfacesummaryhour" 1 Nothing "获取被动回复分布数据: one day";
}

/// What a day's row says.
#[derive(Clone, Copy)]
enum Rows {
    /// No rows: nothing of the kind has happened.
    Nothing,
    Change,
    Followers,
    Reads,
    Messages,
    Pushes,
}

fn list(platform: &mut Platform, call: &Call, span: i64, rows: Rows) -> Result<Answer, Refusal> {
    let body = call.json()?;
    let day = |name: &str| body.text(name).and_then(Day::parse).ok_or(61500);
    let (begin, end) = (day("begin_date")?, day("end_date")?);
    let yesterday = Day::of(platform.now()).plus(-1);
    if end < begin || end.since(begin) >= span || end > yesterday {
        return Err(61501.into());
    }
    let days = (0..=end.since(begin)).map(|days| begin.plus(days));
    let list: Vec<_> = days.filter_map(|day| row(platform, day, rows)).collect();
    Ok(json!({"list": list}).into())
}

fn row(platform: &Platform, day: Day, rows: Rows) -> Option<Value> {
    let followers = || platform.fans.followers();
    let mut row = match rows {
        Rows::Nothing => return None,
        Rows::Change => {
            let came = followers().filter(|fan| Day::of(fan.subscribe_time) == day);
            json!({"user_source": 0, "new_user": came.count(), "cancel_user": 0})
        }
        Rows::Followers => {
            let there = followers().filter(|fan| Day::of(fan.subscribe_time) <= day);
            json!({"user_source": 0, "cumulate_user": there.count()})
        }
        Rows::Reads => json!({
            "int_page_read_user": 0,
            "int_page_read_count": 0,
            "ori_page_read_user": 0,
            "ori_page_read_count": 0,
            "share_user": 0,
            "share_count": 0,
            "add_to_fav_user": 0,
            "add_to_fav_count": 0,
        }),
        Rows::Messages => json!({"msg_type": 1, "msg_user": 0, "msg_count": 0}),
        Rows::Pushes => json!({
            "callback_count": 0,
            "fail_count": 0,
            "total_time_cost": 0,
            "max_time_cost": 0,
        }),
    };
    row["ref_date"] = json!(day.to_string());
    Some(row)
}
