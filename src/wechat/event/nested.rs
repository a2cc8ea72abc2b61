//! The structures inside events.

use crate::wechat::id::MsgId;
use crate::wechat::record::records;

records! {
    /// What a menu button scanned.
    pub struct ScanCodeInfo {
        /// `qrcode` or `barcode`.
        scan_type: String = "ScanType",
        /// A QR code's text, or a bar code's `SYMBOLOGY,digits`.
        scan_result: String = "ScanResult",
    }

    /// The pictures that a menu button sends.
    pub struct SendPicsInfo {
        /// How many.
        count: i64 = "Count",
        /// One entry each.
        pic_list: PicList = "PicList",
    }

    /// The list of the pictures.
    pub struct PicList {
        /// One entry each.
        items: Vec<Pic> = "item",
    }

    /// One picture that a menu button sends.
    pub struct Pic {
        /// By which the image message can be told.
        pic_md5_sum: String = "PicMd5Sum",
    }

    /// The place that a menu button sends.
    pub struct SendLocationInfo {
        /// The latitude in degrees.
        location_x: f64 = "Location_X",
        /// The longitude in degrees.
        location_y: f64 = "Location_Y",
        /// The map's zoom.
        scale: Option<i64> = "Scale",
        /// The address.
        label: Option<String> = "Label",
        /// The place's name.
        poiname: Option<String> = "Poiname",
    }

    /// What the check for originality found in a mass message.
    pub struct CopyrightCheckResult {
        /// Entries in the list.
        count: i64 = "Count",
        /// One entry for each article that was found.
        result_list: Option<CopyrightCheckList> = "ResultList",
        /// 1 not reprinted, 2 may be sent as a reprint, 3 must not be sent.
        check_state: i64 = "CheckState",
    }

    /// The list of the articles that were found.
    pub struct CopyrightCheckList {
        /// One entry each.
        items: Vec<CopyrightCheck> = "item",
    }

    /// One article that was found to be another's.
    pub struct CopyrightCheck {
        /// From 1.
        article_idx: i64 = "ArticleIdx",
        user_declare_state: Option<i64> = "UserDeclareState",
        audit_state: Option<i64> = "AuditState",
        original_article_url: Option<String> = "OriginalArticleUrl",
        original_article_type: Option<i64> = "OriginalArticleType",
        can_reprint: Option<i64> = "CanReprint",
        need_replace_content: Option<i64> = "NeedReplaceContent",
        need_show_reprint_source: Option<i64> = "NeedShowReprintSource",
    }

    /// Where the articles of a mass message are.
    pub struct ArticleUrlResult {
        /// Entries in the list.
        count: i64 = "Count",
        /// One entry for each article.
        result_list: Option<ArticleUrlList> = "ResultList",
    }

    /// The list of the articles.
    pub struct ArticleUrlList {
        /// One entry each.
        items: Vec<ArticleUrl> = "item",
    }

    /// Where one article of a mass message is.
    pub struct ArticleUrl {
        /// From 1.
        article_idx: i64 = "ArticleIdx",
        article_url: String = "ArticleUrl",
    }

    /// The result of publishing a draft.
    pub struct PublishEventInfo {
        /// What the submission answered.
        publish_id: u64 = "publish_id",
        /// 0 published, 1 running, 2 not original, 3 failed, 4 refused, 5 deleted, 6 banned.
        publish_status: i64 = "publish_status",
        /// Of what was published.
        article_id: Option<String> = "article_id",
        /// Where the articles are.
        article_detail: Option<ArticleDetail> = "article_detail",
        /// The numbers of the articles that failed, from 1.
        fail_idx: Vec<i64> = "fail_idx",
    }

    /// Where published articles are.
    pub struct ArticleDetail {
        /// How many.
        count: i64 = "count",
        /// One entry each.
        items: Vec<PublishedArticle> = "item",
    }

    /// Where one published article is.
    pub struct PublishedArticle {
        /// From 1.
        idx: i64 = "idx",
        article_url: String = "article_url",
    }

    /// The answers to a request for subscription notices.
    pub struct SubscribeMsgPopupList {
        /// One for each template.
        list: Vec<SubscribeMsgPopup> = "List",
    }

    /// The answer for one template.
    pub struct SubscribeMsgPopup {
        template_id: String = "TemplateId",
        /// `accept` or `reject`.
        subscribe_status_string: String = "SubscribeStatusString",
        /// 1 a page, 2 an article.
        popup_scene: Option<i64> = "PopupScene",
    }

    /// Changes to the consent to subscription notices.
    pub struct SubscribeMsgChangeList {
        /// One for each template.
        list: Vec<SubscribeMsgChange> = "List",
    }

    /// The change for one template.
    pub struct SubscribeMsgChange {
        template_id: String = "TemplateId",
        /// `reject`.
        subscribe_status_string: String = "SubscribeStatusString",
    }

    /// Results of subscription notices.
    pub struct SubscribeMsgSentList {
        /// One for each template.
        list: Vec<SubscribeMsgSent> = "List",
    }

    /// The result for one template.
    pub struct SubscribeMsgSent {
        template_id: String = "TemplateId",
        /// Of the notice.
        msg_id: MsgId = "MsgID",
        /// 0 after a success.
        error_code: i64 = "ErrorCode",
        /// In words.
        error_status: Option<String> = "ErrorStatus",
    }

    /// The scan of a shop guide's QR code.
    pub struct GuideScanEvent {
        /// The guide's WeChat name.
        qrcode_guide_account: Option<String> = "qrcode_guide_account",
        /// The guide's OpenID, where it is known instead.
        qrcode_guide_openid: Option<String> = "qrcode_guide_openid",
        /// Who scanned.
        openid: Option<String> = "openid",
        action: Option<i64> = "action",
        qrcode_info: Option<String> = "qrcode_info",
    }

    /// A beacon near a phone.
    pub struct Beacon {
        uuid: String = "Uuid",
        major: i64 = "Major",
        minor: i64 = "Minor",
        /// Metres.
        distance: f64 = "Distance",
    }

    /// The other beacons near a phone.
    pub struct AroundBeacons {
        /// One entry each.
        beacons: Vec<Beacon> = "AroundBeacon",
    }
}
