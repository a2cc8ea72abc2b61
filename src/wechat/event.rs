//! Events: what happened between a user and the account, or to the account itself.
//!
//! WeChat: "接收事件推送", "自定义菜单事件推送" and the event pages of each product. One declaration each, with
//! WeChat's names in their exact case. An event that is not declared here, or one whose fields are
//! not as declared, stays [`Unknown`](super::message::Unknown) with all it holds.
//!
//! A reply reaches the user for `subscribe`, `SCAN`, `LOCATION`, `CLICK` and `scancode_waitmsg`. The
//! retired products (coupons, stores, Wi-Fi, beacons, product pages) are read with nearly every field
//! optional.

mod nested;

pub use self::nested::{
    AroundBeacons, ArticleDetail, ArticleUrl, ArticleUrlList, ArticleUrlResult, Beacon,
    CopyrightCheck, CopyrightCheckList, CopyrightCheckResult, GuideScanEvent, Pic, PicList,
    PublishEventInfo, PublishedArticle, ScanCodeInfo, SendLocationInfo, SendPicsInfo,
    SubscribeMsgChange, SubscribeMsgChangeList, SubscribeMsgPopup, SubscribeMsgPopupList,
    SubscribeMsgSent, SubscribeMsgSentList,
};
use super::id::{AppId, MsgId, OpenId, UnionId};
use super::message::Message;
use super::record::records;

records! {
    /// An event by its `Event`.
    pub enum Event {
        /// A user follows the account, perhaps by a QR code with a scene.
        Subscribe = "subscribe" {
            /// `qrscene_` and the scene of the QR code, or empty.
            event_key: Option<String> = "EventKey",
            /// Of the QR code.
            ticket: Option<String> = "Ticket",
        }
        /// A user leaves. What is stored about him is to be removed, and nothing can be said any more.
        Unsubscribe = "unsubscribe" {
            /// Empty.
            event_key: Option<String> = "EventKey",
        }
        /// A follower scans a QR code with a scene.
        Scan = "SCAN" {
            /// The scene, without a prefix.
            event_key: String = "EventKey",
            /// Of the QR code.
            ticket: Option<String> = "Ticket",
        }
        /// Where the user is, on entering the chat or every 5 s, as the console says.
        Location = "LOCATION" {
            /// Degrees.
            latitude: f64 = "Latitude",
            /// Degrees.
            longitude: f64 = "Longitude",
            /// Metres.
            precision: Option<f64> = "Precision",
        }

        /// A tap on a menu button of type `click`.
        Click = "CLICK" {
            /// The button's key.
            event_key: String = "EventKey",
        }
        /// A tap on a menu button that opens a page. The page opens whatever we answer.
        View = "VIEW" {
            /// The page's URL.
            event_key: String = "EventKey",
            /// Of the conditional menu that was shown.
            menu_id: Option<u64> = "MenuId",
        }
        /// A tap on a menu button that opens a mini program.
        ViewMiniprogram = "view_miniprogram" {
            /// The page's path.
            event_key: String = "EventKey",
            /// Of the conditional menu that was shown.
            menu_id: Option<u64> = "MenuId",
        }
        /// A scan by a menu button. The phone shows the result itself.
        ScancodePush = "scancode_push" {
            /// The button's key.
            event_key: String = "EventKey",
            /// What was scanned.
            scan_code_info: ScanCodeInfo = "ScanCodeInfo",
        }
        /// A scan by a menu button. The phone waits for the reply.
        ScancodeWaitmsg = "scancode_waitmsg" {
            /// The button's key.
            event_key: String = "EventKey",
            /// What was scanned.
            scan_code_info: ScanCodeInfo = "ScanCodeInfo",
        }
        /// Photos taken by a menu button. They follow as image messages.
        PicSysphoto = "pic_sysphoto" {
            /// The button's key.
            event_key: String = "EventKey",
            /// What was sent.
            send_pics_info: SendPicsInfo = "SendPicsInfo",
        }
        /// Photos taken or chosen by a menu button. They follow as image messages.
        PicPhotoOrAlbum = "pic_photo_or_album" {
            /// The button's key.
            event_key: String = "EventKey",
            /// What was sent.
            send_pics_info: SendPicsInfo = "SendPicsInfo",
        }
        /// Photos chosen from WeChat's album by a menu button. They follow as image messages.
        PicWeixin = "pic_weixin" {
            /// The button's key.
            event_key: String = "EventKey",
            /// What was sent.
            send_pics_info: SendPicsInfo = "SendPicsInfo",
        }
        /// A place chosen by a menu button. It follows as a location message.
        LocationSelect = "location_select" {
            /// The button's key.
            event_key: String = "EventKey",
            /// What was chosen.
            send_location_info: SendLocationInfo = "SendLocationInfo",
        }

        /// A template message was delivered, or not.
        TemplateSendJobFinish = "TEMPLATESENDJOBFINISH" {
            /// The `msgid` that the sending answered.
            msg_id: MsgId = "MsgID",
            /// `success`, `failed:user block` or `failed: system failed`.
            status: String = "Status",
        }
        /// A mass message was sent, or not. The sender of the event is no fan.
        MassSendJobFinish = "MASSSENDJOBFINISH" {
            /// The `msg_id` that the sending answered.
            msg_id: MsgId = "MsgID",
            /// `send success`, `send fail` or `err(number)`.
            status: String = "Status",
            /// Fans addressed.
            total_count: i64 = "TotalCount",
            /// Fans left after filtering: the sum of the two below.
            filter_count: i64 = "FilterCount",
            /// Fans who got it.
            sent_count: i64 = "SentCount",
            /// Fans who did not.
            error_count: i64 = "ErrorCount",
            /// What the check for originality found.
            copyright_check_result: Option<CopyrightCheckResult> = "CopyrightCheckResult",
            /// Where the articles are.
            article_url_result: Option<ArticleUrlResult> = "ArticleUrlResult",
        }
        /// A draft was published, or not.
        PublishJobFinish = "PUBLISHJOBFINISH" {
            /// The result.
            publish_event_info: PublishEventInfo = "PublishEventInfo",
        }
        /// A user answered the request for subscription notices.
        SubscribeMsgPopupEvent = "subscribe_msg_popup_event" {
            /// One answer for each template.
            subscribe_msg_popup_event: SubscribeMsgPopupList = "SubscribeMsgPopupEvent",
        }
        /// A user changed his mind about subscription notices.
        SubscribeMsgChangeEvent = "subscribe_msg_change_event" {
            /// One change for each template.
            subscribe_msg_change_event: SubscribeMsgChangeList = "SubscribeMsgChangeEvent",
        }
        /// A subscription notice was delivered, or not.
        SubscribeMsgSentEvent = "subscribe_msg_sent_event" {
            /// One result for each template.
            subscribe_msg_sent_event: SubscribeMsgSentList = "SubscribeMsgSentEvent",
        }

        /// The platform cleaned a user's profile. It concerns `open_id`, whoever the sender is.
        UserInfoModified = "user_info_modified" any_case {
            /// Whom it concerns.
            open_id: OpenId = "OpenID",
            /// The account that he had authorised.
            app_id: Option<AppId> = "AppID",
            /// Where the account belongs to an Open Platform owner.
            union_id: Option<UnionId> = "UnionID",
        }
        /// A user withdrew his OAuth consent: what is stored about him is to be removed.
        UserAuthorizationRevoke = "user_authorization_revoke" any_case {
            /// Whom it concerns.
            open_id: OpenId = "OpenID",
            /// The account that he had authorised.
            app_id: Option<AppId> = "AppID",
            /// What he withdrew, as numbers with commas.
            revoke_info: Option<String> = "RevokeInfo",
            /// Where the account belongs to an Open Platform owner.
            union_id: Option<UnionId> = "UnionID",
        }
        /// A user closed his WeChat account: what is stored about him is to be removed.
        UserAuthorizationCancellation = "user_authorization_cancellation" any_case {
            /// Whom it concerns.
            open_id: OpenId = "OpenID",
            /// The account that he had authorised.
            app_id: Option<AppId> = "AppID",
            /// Where the account belongs to an Open Platform owner.
            union_id: Option<UnionId> = "UnionID",
        }

        /// A customer-service conversation begins.
        KfCreateSession = "kf_create_session" {
            /// Who serves.
            kf_account: String = "KfAccount",
        }
        /// A customer-service conversation ends.
        KfCloseSession = "kf_close_session" {
            /// Who served.
            kf_account: String = "KfAccount",
        }
        /// A customer-service conversation goes to another.
        KfSwitchSession = "kf_switch_session" {
            /// Who served.
            from_kf_account: String = "FromKfAccount",
            /// Who serves now.
            to_kf_account: String = "ToKfAccount",
        }

        /// The owner's documents passed the account's certification.
        QualificationVerifySuccess = "qualification_verify_success" {
            /// Unix seconds.
            expired_time: i64 = "ExpiredTime",
        }
        /// The owner's documents did not pass the account's certification.
        QualificationVerifyFail = "qualification_verify_fail" {
            /// Unix seconds.
            fail_time: i64 = "FailTime",
            /// In words.
            fail_reason: Option<String> = "FailReason",
        }
        /// The account's name passed certification.
        NamingVerifySuccess = "naming_verify_success" {
            /// Unix seconds.
            expired_time: i64 = "ExpiredTime",
        }
        /// The account's name did not pass certification.
        NamingVerifyFail = "naming_verify_fail" {
            /// Unix seconds.
            fail_time: i64 = "FailTime",
            /// In words.
            fail_reason: Option<String> = "FailReason",
        }
        /// The yearly certification is due.
        AnnualRenew = "annual_renew" {
            /// Unix seconds.
            expired_time: i64 = "ExpiredTime",
        }
        /// The certification has ended.
        VerifyExpired = "verify_expired" {
            /// Unix seconds.
            expired_time: i64 = "ExpiredTime",
        }

        /// A coupon passed review.
        CardPassCheck = "card_pass_check" {
            card_id: String = "CardId",
        }
        /// A coupon did not pass review.
        CardNotPassCheck = "card_not_pass_check" {
            card_id: String = "CardId",
            /// In words.
            refuse_reason: Option<String> = "RefuseReason",
        }
        /// A user takes a coupon.
        UserGetCard = "user_get_card" {
            card_id: String = "CardId",
            is_give_by_friend: Option<i64> = "IsGiveByFriend",
            user_card_code: Option<String> = "UserCardCode",
            friend_user_name: Option<OpenId> = "FriendUserName",
            outer_id: Option<i64> = "OuterId",
            old_user_card_code: Option<String> = "OldUserCardCode",
            outer_str: Option<String> = "OuterStr",
            is_restore_member_card: Option<i64> = "IsRestoreMemberCard",
            is_recommend_by_friend: Option<i64> = "IsRecommendByFriend",
            union_id: Option<UnionId> = "UnionId",
        }
        /// A user gives a coupon away.
        UserGiftingCard = "user_gifting_card" {
            card_id: String = "CardId",
            user_card_code: Option<String> = "UserCardCode",
            is_return_back: Option<i64> = "IsReturnBack",
            friend_user_name: Option<OpenId> = "FriendUserName",
            is_chat_room: Option<i64> = "IsChatRoom",
        }
        /// A user deletes a coupon.
        UserDelCard = "user_del_card" {
            card_id: String = "CardId",
            user_card_code: Option<String> = "UserCardCode",
        }
        /// A coupon is used.
        UserConsumeCard = "user_consume_card" {
            card_id: String = "CardId",
            user_card_code: Option<String> = "UserCardCode",
            consume_source: Option<String> = "ConsumeSource",
            location_name: Option<String> = "LocationName",
            staff_open_id: Option<OpenId> = "StaffOpenId",
            verify_code: Option<String> = "VerifyCode",
            remark_amount: Option<String> = "RemarkAmount",
            outer_str: Option<String> = "OuterStr",
        }
        /// A user pays by a coupon's quick-pay entry.
        UserPayFromPayCell = "user_pay_from_pay_cell" {
            card_id: String = "CardId",
            user_card_code: Option<String> = "UserCardCode",
            trans_id: Option<String> = "TransId",
            location_id: Option<i64> = "LocationId",
            /// What was paid, in fen.
            fee: Option<i64> = "Fee",
            /// What was due, in fen.
            original_fee: Option<i64> = "OriginalFee",
        }
        /// A user opens his member card.
        UserViewCard = "user_view_card" {
            card_id: String = "CardId",
            user_card_code: Option<String> = "UserCardCode",
            outer_str: Option<String> = "OuterStr",
        }
        /// A user comes to the chat from a coupon.
        UserEnterSessionFromCard = "user_enter_session_from_card" {
            card_id: String = "CardId",
            user_card_code: Option<String> = "UserCardCode",
        }
        /// A member card's content changes.
        UpdateMemberCard = "update_member_card" {
            card_id: String = "CardId",
            user_card_code: Option<String> = "UserCardCode",
            modify_bonus: Option<i64> = "ModifyBonus",
            modify_balance: Option<i64> = "ModifyBalance",
        }
        /// A coupon's stock runs low.
        CardSkuRemind = "card_sku_remind" {
            card_id: String = "CardId",
            detail: Option<String> = "Detail",
        }
        /// The account's coupon points change.
        CardPayOrder = "card_pay_order" {
            order_id: String = "OrderId",
            status: Option<String> = "Status",
            /// Unix seconds.
            create_order_time: Option<i64> = "CreateOrderTime",
            /// Unix seconds.
            pay_finish_time: Option<i64> = "PayFinishTime",
            desc: Option<String> = "Desc",
            free_coin_count: Option<String> = "FreeCoinCount",
            pay_coin_count: Option<String> = "PayCoinCount",
            refund_free_coin_count: Option<String> = "RefundFreeCoinCount",
            refund_pay_coin_count: Option<String> = "RefundPayCoinCount",
            order_type: Option<String> = "OrderType",
            memo: Option<String> = "Memo",
            receipt_info: Option<String> = "ReceiptInfo",
        }
        /// A user activates a member card.
        SubmitMembercardUserInfo = "submit_membercard_user_info" {
            card_id: String = "CardId",
            user_card_code: Option<String> = "UserCardCode",
        }
        /// A sub-merchant passed review, or not.
        CardMerchantCheckResult = "card_merchant_check_result" {
            merchant_id: Option<i64> = "MerchantId",
            is_pass: Option<i64> = "IsPass",
            reason: Option<String> = "Reason",
        }

        /// A user authorises an electronic invoice.
        UserAuthorizeInvoice = "user_authorize_invoice" {
            /// Empty after a failure.
            succ_order_id: Option<String> = "SuccOrderId",
            /// Empty after a success.
            fail_order_id: Option<String> = "FailOrderId",
            app_id: Option<AppId> = "AppId",
            source: Option<String> = "Source",
        }
        /// An electronic invoice changes its state.
        UpdateInvoiceStatus = "update_invoice_status" {
            status: Option<String> = "Status",
            card_id: String = "CardId",
            code: Option<String> = "Code",
        }
        /// A user hands in the details for his invoices.
        SubmitInvoiceTitle = "submit_invoice_title" {
            title: Option<String> = "title",
            tax_no: Option<String> = "tax_no",
            addr: Option<String> = "addr",
            phone: Option<String> = "phone",
            bank_type: Option<String> = "bank_type",
            bank_no: Option<String> = "bank_no",
            attach: Option<String> = "attach",
            title_type: Option<String> = "title_type",
        }

        /// A store passed review, or not.
        PoiCheckNotify = "poi_check_notify" {
            uniq_id: Option<String> = "UniqId",
            poi_id: Option<String> = "PoiId",
            /// `succ` or `fail`.
            result: Option<String> = "Result",
            msg: Option<String> = "msg",
        }
        /// A user joined a store's Wi-Fi.
        WifiConnected = "WifiConnected" {
            /// Unix seconds.
            connect_time: Option<i64> = "ConnectTime",
            /// Unix seconds.
            expire_time: Option<i64> = "ExpireTime",
            vendor_id: Option<String> = "VendorId",
            shop_id: Option<String> = "ShopId",
            /// A hardware address.
            device_no: Option<String> = "DeviceNo",
        }
        /// A user scanned a shop guide's QR code.
        GuideQrcodeScanEvent = "guide_qrcode_scan_event" {
            /// Whose code, and what happened.
            guide_scan_event: GuideScanEvent = "GuideScanEvent",
        }
        /// A user shook his phone near a beacon.
        ShakearoundUserShake = "ShakearoundUserShake" {
            /// The nearest.
            chosen_beacon: Option<Beacon> = "ChosenBeacon",
            /// The others.
            around_beacons: Option<AroundBeacons> = "AroundBeacons",
        }
        /// An order in the platform's small shop was paid.
        MerchantOrder = "merchant_order" {
            order_id: String = "OrderId",
            order_status: Option<i64> = "OrderStatus",
            product_id: Option<String> = "ProductId",
            sku_info: Option<String> = "SkuInfo",
        }
        /// A user opened a product's page by its bar code.
        UserScanProduct = "user_scan_product" {
            key_standard: Option<String> = "KeyStandard",
            key_str: Option<String> = "KeyStr",
            country: Option<String> = "Country",
            province: Option<String> = "Province",
            city: Option<String> = "City",
            sex: Option<i64> = "Sex",
            scene: Option<i64> = "Scene",
            ext_info: Option<String> = "ExtInfo",
        }
        /// A user came to the chat from a product's page.
        UserScanProductEnterSession = "user_scan_product_enter_session" {
            key_standard: Option<String> = "KeyStandard",
            key_str: Option<String> = "KeyStr",
            ext_info: Option<String> = "ExtInfo",
        }
        /// Where a user was who opened a product's page.
        UserScanProductAsync = "user_scan_product_async" {
            key_standard: Option<String> = "KeyStandard",
            key_str: Option<String> = "KeyStr",
            ext_info: Option<String> = "ExtInfo",
            region_code: Option<String> = "RegionCode",
        }
        /// A product passed review, or not.
        UserScanProductVerifyAction = "user_scan_product_verify_action" {
            key_standard: Option<String> = "KeyStandard",
            key_str: Option<String> = "KeyStr",
            result: Option<String> = "Result",
            reason_msg: Option<String> = "ReasonMsg",
        }
        /// The console's push tester.
        DebugDemo = "debug_demo" {
            debug_str: Option<String> = "debug_str",
        }
    }
}

impl Event {
    /// The event of a message.
    pub fn of(message: &Message) -> Option<&Self> {
        message.event()
    }

    /// `EventKey`: a menu button's key or URL, or a QR code's scene. `None` where empty.
    pub fn key(&self) -> Option<&str> {
        let key = match self {
            Self::Subscribe(event) => event.event_key.as_deref()?,
            Self::Unsubscribe(event) => event.event_key.as_deref()?,
            Self::Scan(event) => &event.event_key,
            Self::Click(event) => &event.event_key,
            Self::View(event) => &event.event_key,
            Self::ViewMiniprogram(event) => &event.event_key,
            Self::ScancodePush(event) => &event.event_key,
            Self::ScancodeWaitmsg(event) => &event.event_key,
            Self::PicSysphoto(event) => &event.event_key,
            Self::PicPhotoOrAlbum(event) => &event.event_key,
            Self::PicWeixin(event) => &event.event_key,
            Self::LocationSelect(event) => &event.event_key,
            _ => return None,
        };
        Some(key).filter(|key| !key.is_empty())
    }

    /// The scene of the QR code that was scanned, by a new follower or an old one.
    pub fn scene(&self) -> Option<&str> {
        match self {
            Self::Subscribe(_) => self.key()?.strip_prefix("qrscene_"),
            Self::Scan(_) => self.key(),
            _ => None,
        }
    }

    /// Whom an authorization event concerns, where that is not for the sender to say.
    pub fn subject(&self) -> Option<&OpenId> {
        match self {
            Self::UserInfoModified(event) => Some(&event.open_id),
            Self::UserAuthorizationRevoke(event) => Some(&event.open_id),
            Self::UserAuthorizationCancellation(event) => Some(&event.open_id),
            _ => None,
        }
    }
}
